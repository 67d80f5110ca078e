//! The tokenizer of the caption metrics: what pycocoevalcap 1.2 makes of a caption with Stanford's
//! PTBTokenizer (`-preserveLines -lowerCase`) and its own list of punctuation.
//!
//! Equal on every caption of COCO val2017 and Flickr8k, and on nearly all that was made up of odd
//! characters. Known to differ, and left: markup beyond simple tags and the commonest entities, faces
//! with a backslash, a full stop between `!` or `?` within a word and a comma (`word?s.,`), `a/0-67`
//! with digits after the hyphen, letters of scripts newer than Unicode 6.1 in some combinations, and a
//! caption with line breaks other than `\n`: there the Python wrapper takes the rest for the next
//! caption and moves all that follow; here they are blanks. Where a line ends, the Java tokenizer sees
//! the next caption; the last caption of a text is treated as if another followed.

mod rules;

use std::sync::OnceLock;

use regex_automata::{
    Anchored, Input, MatchKind,
    meta::{Config, Regex},
};
use rules::{Act, Ending};

/// What is compiled once for a process.
struct Lexer {
    /// All rules; a search gives the longest match, of equally long ones the earliest rule's.
    regex: Regex,
    acts: Vec<Act>,
}

fn lexer() -> &'static Lexer {
    static LEXER: OnceLock<Lexer> = OnceLock::new();
    LEXER.get_or_init(|| {
        let rules = rules::rules();
        let patterns: Vec<&str> = rules.iter().map(|(pattern, _)| pattern.as_str()).collect();
        let regex = Regex::builder()
            .configure(
                Config::new()
                    .match_kind(MatchKind::All)
                    .hybrid_cache_capacity(64 << 20),
            )
            .build_many(&patterns);
        Lexer {
            // The rules are constants and every test goes through them.
            regex: regex.expect("the rules are valid"),
            acts: rules.iter().map(|(_, act)| *act).collect(),
        }
    })
}

/// The tokens of one caption, in order: lower case, punctuation left out.
pub fn tokenize(caption: &str) -> Vec<String> {
    tokenize_before(caption, "")
}

/// The tokens of captions that are scored together. The Java tokenizer reads all of them as one text,
/// so that the beginning of a caption may decide about a full stop at the end of the one before it
/// ("sector K." before "The sign" is `k`, before "a sign" `k.`); this does the same.
pub fn tokenize_all<S: AsRef<str>>(captions: &[S]) -> Vec<Vec<String>> {
    captions
        .iter()
        .enumerate()
        .map(|(i, caption)| {
            let next = captions.get(i + 1).map_or("", AsRef::as_ref);
            tokenize_before(caption.as_ref(), next)
        })
        .collect()
}

/// The part of a following caption that can matter.
const LOOK_AHEAD: usize = 16;

fn tokenize_before(caption: &str, next: &str) -> Vec<String> {
    let lexer = lexer();
    let mut text: String = caption.chars().map(one_line).collect();
    let end = text.len();
    text.push('\n');
    text.extend(next.chars().take(LOOK_AHEAD).map(one_line));
    text.push_str("\n\n");
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < end {
        let found = lexer
            .regex
            .search(&Input::new(&text).range(at..).anchored(Anchored::Yes));
        let Some(found) = found else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
            continue;
        };
        let matched = &text[found.range()];
        let but = |n: usize| {
            matched
                .char_indices()
                .rev()
                .take(n)
                .last()
                .map_or(matched.len(), |(i, _)| i)
        };
        let first = |n: usize| {
            matched
                .char_indices()
                .nth(n)
                .map_or(matched.len(), |(i, _)| i)
        };
        let act = lexer.acts[found.pattern().as_usize()];
        let length = match act {
            Act::KeepBut(n) | Act::PlainBut(n) | Act::EscapedBut(n) => but(n),
            Act::First(n) => first(n),
            Act::Before(Ending::Not) => but(3),
            Act::Before(Ending::Apostrophe) => matched
                .rfind(['\'', '\u{92}', '\u{2019}'])
                .unwrap_or(matched.len()),
            Act::Before(Ending::AfterStop) => matched.find('.').map_or(matched.len(), |i| i + 1),
            _ => matched.len(),
        };
        let token = &matched[..length];
        match act {
            Act::Nothing | Act::Dropped => {}
            Act::As(fixed) => tokens.push(fixed.to_owned()),
            _ => {
                let written: String = token.chars().filter(|c| *c != '\u{AD}').collect();
                let written = match act {
                    Act::PlainBut(_) => written
                        .replace(['\u{92}', '\u{2019}'], "'")
                        .replace(['\u{91}', '\u{2018}'], "`")
                        .replace("&amp;", "&"),
                    Act::EscapedBut(_) => written
                        .replace('(', "-lrb-")
                        .replace(')', "-rrb-")
                        .replace([' ', '\t'], "\u{A0}"),
                    Act::Quotes => written
                        .replace(['\u{91}', '‘'], "`")
                        .replace(['\u{92}', '’'], "'")
                        .replace(['\u{93}', '“'], "``")
                        .replace(['\u{94}', '”'], "''"),
                    _ => written,
                };
                let lower = written.to_lowercase();
                if !matches!(lower.as_str(), "" | "'" | "''" | "`" | "``" | "-" | ".") {
                    tokens.push(lower);
                }
            }
        }
        at += length.max(1);
    }
    tokens
}

/// Line breaks within a caption are blanks.
fn one_line(c: char) -> char {
    match c {
        '\n' | '\r' | '\u{B}' | '\u{C}' | '\u{85}' | '\u{2028}' | '\u{2029}' => ' ',
        c => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expected tokens are those of the Java tokenizer.
    #[test]
    fn equals_the_java_tokenizer() {
        #[rustfmt::skip]
        let cases = [
            ("A man's dog isn't here, they've gone and he'll wait.", "a man 's dog is n't here they 've gone and he 'll wait"),
            ("She said \"hello\" and 'goodbye' to O'Brien at five o'clock", "she said hello and goodbye to o'brien at five o'clock"),
            ("Mr. Smith vs. the U.S. team at 5 p.m. on Oct. 3", "mr. smith vs. the u.s. team at 5 p.m. on oct. 3"),
            ("He paid $5.00, €7 or 50% of 1,000 for 1 1/2 cups", "he paid $ 5.00 $ 7 or 50 % of 1,000 for 1\u{A0}1/2 cups"),
            ("A black-and-white photo w/ his/her dog/cat and/or a 5-year-old", "a black-and-white photo w / his/her dog/cat and/or a 5-year-old"),
            ("Call 555-1234 or write to me@example.com; see http://example.com/a.", "call 555-1234 or write to me@example.com; see http://example.com/a"),
            ("Two dogs... one cat!! (maybe) [sic] & more?", "two dogs one cat !! -lrb- maybe -rrb- -lsb- sic -rsb- & more"),
            ("Café naïve “quoted” it’s rock 'n' roll 😀 fun", "café naïve quoted it 's rock 'n' roll fun"),
            ("I cannot wait, I'm gonna go; y'all wanna come?", "i can not wait i 'm gon na go y' all wan na come"),
            ("At 10:30am the '80s band played for 2 1/2 hours", "at 10:30 am the '80s band played for 2\u{A0}1/2 hours"),
            ("The train on platform B. A sign", "the train on platform b a sign"),
            ("  ", ""),
        ];
        for (caption, expected) in cases {
            assert_eq!(tokenize(caption).join(" "), expected);
        }
    }

    #[test]
    fn the_next_caption_may_decide_about_a_full_stop() {
        let captions = ["A door with a B.", "The door is open", "a B.", "a door"];
        let found: Vec<String> = tokenize_all(&captions)
            .iter()
            .map(|tokens| tokens.join(" "))
            .collect();
        assert_eq!(
            found,
            ["a door with a b", "the door is open", "a b.", "a door"]
        );
    }

    #[test]
    fn line_breaks_are_blanks() {
        assert_eq!(tokenize("a\r\ndog\u{2028}runs"), ["a", "dog", "runs"]);
    }
}
