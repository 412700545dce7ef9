//! "Did you mean": the known word next to a misspelt one.

/// Longer words are never near: the distance takes time and memory by the product of both lengths.
const LONGEST: usize = 32;

/// The candidate at most two edits away from `word`, or equal but for case. None for a word or
/// candidate of more than 32 characters.
pub fn nearest<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    if word.chars().nth(LONGEST).is_some() {
        return None;
    }
    let word = word.to_lowercase();
    candidates
        .iter()
        .filter(|candidate| candidate.len() <= LONGEST)
        .map(|candidate| (distance(&word, &candidate.to_lowercase()), *candidate))
        .filter(|(edits, candidate)| *edits <= 2 && *edits < candidate.len())
        .min()
        .map(|(_, candidate)| candidate)
}

/// Edits between two words, a swap of neighbours counting as one.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0usize; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let replace = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replace.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_two_edits_away_is_suggested_and_a_stranger_is_not() {
        let known = ["hugepages", "memory_mib", "extra"];
        assert_eq!(nearest("hugepage", &known), Some("hugepages"));
        assert_eq!(nearest("HugePages", &known), Some("hugepages"));
        assert_eq!(nearest("memory-mb", &known), Some("memory_mib"));
        assert_eq!(nearest("colour", &known), None);
        assert_eq!(nearest(&"x".repeat(100_000), &known), None);
    }

    #[test]
    fn a_swap_of_neighbours_is_one_edit() {
        assert_eq!(distance("exprot", "export"), 1);
        assert_eq!(distance("epxrot", "export"), 2);
    }
}
