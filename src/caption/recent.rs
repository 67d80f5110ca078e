//! Embeddings of the sentences that were said last.

use std::collections::VecDeque;

/// Sentences that are remembered: the candidates of a dozen frames, 100 kB with the default pack.
const MOST: usize = 64;

/// Embeddings by sentence. A scene that stays is described in the same few sentences again and again; each
/// that is found here saves a run of the text tower.
#[derive(Debug, Default)]
pub struct Recent {
    /// The sentence that was asked for last comes first.
    held: VecDeque<(String, Vec<f32>)>,
}

impl Recent {
    /// The embedding of a sentence; `embed` makes it where none is held.
    ///
    /// # Errors
    /// Those of `embed`; nothing is remembered then.
    pub fn get<E>(
        &mut self,
        sentence: &str,
        embed: impl FnOnce(&str) -> Result<Vec<f32>, E>,
    ) -> Result<Vec<f32>, E> {
        let known = self.held.iter().position(|(held, _)| held == sentence);
        let entry = match known.and_then(|at| self.held.remove(at)) {
            Some(entry) => entry,
            None => (sentence.to_owned(), embed(sentence)?),
        };
        let embedding = entry.1.clone();
        self.held.push_front(entry);
        self.held.truncate(MOST);
        Ok(embedding)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_is_embedded_once_while_it_is_held() {
        let mut recent = Recent::default();
        let mut runs = 0;
        let mut ask = |sentence: &str| {
            recent
                .get(sentence, |text| {
                    runs += 1;
                    Ok::<_, ()>(vec![text.len() as f32])
                })
                .unwrap()
        };
        for _ in 0..3 {
            assert_eq!(ask("a dog"), [5.0]);
            assert_eq!(ask("two dogs"), [8.0]);
        }
        // "a dog" is asked for in between, so it is never the oldest.
        for number in 0..2 * MOST {
            ask(&format!("sentence {number}"));
            ask("a dog");
        }
        ask("two dogs");
        assert_eq!(runs, 2 + 2 * MOST + 1);
    }

    #[test]
    fn what_failed_is_tried_again() {
        let mut recent = Recent::default();
        assert_eq!(recent.get("x", |_| Err("no")), Err("no"));
        assert_eq!(recent.get("x", |_| Ok::<_, &str>(vec![1.0])), Ok(vec![1.0]));
    }
}
