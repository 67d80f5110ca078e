//! As much of JSON Schema as our own schemas use.
//!
//! The `jsonschema` crate does all of it, but it turns on `float_roundtrip` of serde_json and a
//! feature of memchr for the whole build: the tests would read numbers otherwise than the program
//! that is shipped, and compile the inference engine once more. Hence this; a keyword that it
//! doesn't know is a panic, so no rule is passed over.

use regex_automata::meta::Regex;
use serde_json::{Map, Value};

/// All that is wrong with `value`, each with its place; empty if it follows the schema.
pub fn problems(schema: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    check(schema, schema, value, "", &mut found);
    found
}

fn follows(root: &Value, schema: &Value, value: &Value) -> bool {
    let mut found = Vec::new();
    check(root, schema, value, "", &mut found);
    found.is_empty()
}

fn check(root: &Value, schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    if let Some(allowed) = schema.as_bool() {
        if !allowed {
            found.push(format!("{at}: not allowed"));
        }
        return;
    }
    let rules = schema.as_object().unwrap();
    let nothing = Map::new();
    let properties = rules
        .get("properties")
        .map_or(&nothing, |rule| rule.as_object().unwrap());
    let members = value.as_object().unwrap_or(&nothing);
    let text = value.as_str();
    let length = text.map(|text| text.chars().count() as u64);
    let is = |right: bool, found: &mut Vec<String>, what: &str| {
        if !right {
            found.push(format!("{at}: {what}: {value}"));
        }
    };
    for (keyword, rule) in rules {
        let number = || rule.as_u64().unwrap();
        match keyword.as_str() {
            "$schema" | "$comment" | "title" | "$defs" | "then" => {}
            "$ref" => {
                let pointer = rule.as_str().unwrap().strip_prefix('#').unwrap();
                check(root, root.pointer(pointer).unwrap(), value, at, found);
            }
            "type" => {
                let right = match rule.as_str().unwrap() {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "number" => value.is_number(),
                    kind => panic!("type {kind} in a schema isn't known here"),
                };
                is(right, found, &format!("expected {rule}"));
            }
            "const" => is(value == rule, found, &format!("expected {rule}")),
            "enum" => {
                let right = rule.as_array().unwrap().contains(value);
                is(right, found, &format!("expected one of {rule}"));
            }
            "required" => {
                for key in rule.as_array().unwrap() {
                    let right = !value.is_object() || members.contains_key(key.as_str().unwrap());
                    is(right, found, &format!("{key} is missing"));
                }
            }
            "properties" => {
                for (key, rule) in properties {
                    if let Some(member) = members.get(key) {
                        check(root, rule, member, &format!("{at}/{key}"), found);
                    }
                }
            }
            "additionalProperties" => {
                for (key, member) in members {
                    if !properties.contains_key(key) {
                        check(root, rule, member, &format!("{at}/{key}"), found);
                    }
                }
            }
            "propertyNames" => {
                for key in members.keys() {
                    let key = Value::from(key.as_str());
                    check(root, rule, &key, &format!("{at}/(key)"), found);
                }
            }
            "minProperties" => {
                let right = !value.is_object() || members.len() as u64 >= number();
                is(right, found, "too few members");
            }
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(root, rule, item, &format!("{at}/{index}"), found);
                }
            }
            "minItems" => {
                let right = value
                    .as_array()
                    .is_none_or(|list| list.len() as u64 >= number());
                is(right, found, "too few items");
            }
            "minLength" => is(length.is_none_or(|n| n >= number()), found, "too short"),
            "maxLength" => is(length.is_none_or(|n| n <= number()), found, "too long"),
            "minimum" => {
                let least = rule.as_f64().unwrap();
                is(
                    value.as_f64().is_none_or(|n| n >= least),
                    found,
                    "too small",
                );
            }
            "pattern" => {
                let pattern = Regex::new(rule.as_str().unwrap()).unwrap();
                let right = text.is_none_or(|text| pattern.is_match(text));
                is(right, found, &format!("expected {rule}"));
            }
            "allOf" => {
                for rule in rule.as_array().unwrap() {
                    check(root, rule, value, at, found);
                }
            }
            "anyOf" => {
                let mut rules = rule.as_array().unwrap().iter();
                let right = rules.any(|rule| follows(root, rule, value));
                is(right, found, &format!("none of {rule}"));
            }
            "if" => {
                if follows(root, rule, value) {
                    check(root, &rules["then"], value, at, found);
                }
            }
            keyword => panic!("{keyword} in a schema isn't known here"),
        }
    }
}
