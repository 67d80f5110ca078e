//! ROUGE-L (Lin 2004) as pycocoevalcap 1.2 computes it: the best precision and the best recall over
//! the references, each taken by itself, then F with beta 1.2.

/// Weight of recall against precision.
const BETA: f64 = 1.2;

/// ROUGE-L of a caption against its references, both as tokens. A caption without tokens counts as
/// one empty token, which an empty reference has too (as in pycocoevalcap).
pub fn rouge_l(caption: &[String], references: &[Vec<String>]) -> f64 {
    let caption = or_empty(caption);
    let (mut precision, mut recall) = (0f64, 0f64);
    for reference in references {
        let reference = or_empty(reference);
        let common = longest_common(&caption, &reference) as f64;
        precision = precision.max(common / caption.len() as f64);
        recall = recall.max(common / reference.len() as f64);
    }
    if precision == 0.0 || recall == 0.0 {
        return 0.0;
    }
    let square = BETA * BETA;
    (1.0 + square) * precision * recall / (recall + square * precision)
}

fn or_empty(tokens: &[String]) -> Vec<&str> {
    if tokens.is_empty() {
        return vec![""];
    }
    tokens.iter().map(String::as_str).collect()
}

/// Length of the longest common subsequence.
fn longest_common(a: &[&str], b: &[&str]) -> usize {
    let mut row = vec![0; b.len() + 1];
    for x in a {
        let mut diagonal = 0;
        for (j, y) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = if x == y {
                diagonal + 1
            } else {
                above.max(row[j])
            };
            diagonal = above;
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn best_precision_and_recall_come_from_any_reference() {
        // Precision 3/3 from the first, recall 2/2 from the second: no single reference has both.
        let references = [tokens("a dog runs on wet grass"), tokens("a dog")];
        assert_eq!(rouge_l(&tokens("a dog runs"), &references), 1.0);
        assert_eq!(rouge_l(&tokens("cat"), &references), 0.0);
    }

    #[test]
    fn empty_captions() {
        assert_eq!(rouge_l(&[], &[tokens("a dog")]), 0.0);
        assert_eq!(rouge_l(&[], &[Vec::new()]), 1.0);
    }
}
