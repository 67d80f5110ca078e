//! The page itself: one file, in the program.

use std::sync::Arc;

use base64::Engine as _;
use sha2::{Digest, Sha256};

/// HTML, CSS and JavaScript. There is nothing secret in it, so it's sent to everybody: the token is
/// asked for by it.
pub(super) const HTML: &str = include_str!("page.html");

/// The page's Content-Security-Policy: it runs the one script and the one style that are in it,
/// known by their hashes, talks to us alone, and shows pictures that it has fetched itself. Text that
/// came as markup by some mistake would run nothing.
pub(super) fn policy() -> Arc<str> {
    let hash = |element: &str| {
        let digest = Sha256::digest(content(element).as_bytes());
        base64::engine::general_purpose::STANDARD.encode(digest)
    };
    format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; img-src blob: data:; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
         require-trusted-types-for 'script'",
        hash("script"),
        hash("style")
    )
    .into()
}

/// What is inside of the page's only element of this kind.
fn content(element: &str) -> &'static str {
    HTML.split_once(&format!("<{element}>"))
        .and_then(|(_, rest)| rest.split_once(&format!("</{element}>")))
        .map_or("", |(content, _)| content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_script_and_one_style_and_nothing_from_elsewhere() {
        for element in ["script", "style"] {
            assert_eq!(HTML.matches(&format!("<{element}")).count(), 1, "{element}");
            assert!(!content(element).is_empty());
        }
        for elsewhere in [
            "http://", "https://", " src=", "@import", "url(", " onclick", " style=",
        ] {
            assert!(!HTML.contains(elsewhere), "{elsewhere:?} is in the page");
        }
        // Text is never put in as markup.
        for markup in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
        ] {
            assert!(!HTML.contains(markup), "{markup:?} is in the page");
        }
    }
}
