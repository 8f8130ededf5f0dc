//! Tables many of whose rows are alike: each row is written once, and integers say which row an id has.

use std::collections::HashMap;

/// Behind a table's name: the name of its integers.
pub const ROWS: &str = "/rows";

/// The rows of a `(rows, width)` table that differ, and which of them each row is, for numbers that take `bytes` in the file.
///
/// `None` where the integers would take more room than the rows that they spare.
pub fn shared(width: usize, bytes: usize, values: &[f32]) -> Option<(Vec<f32>, Vec<i64>)> {
    let mut known: HashMap<Vec<u32>, i64> = HashMap::new();
    let (mut rows, mut places) = (Vec::new(), Vec::new());
    for row in values.chunks_exact(width) {
        let next = known.len() as i64;
        let place = *known.entry(row.iter().map(|v| v.to_bits()).collect()).or_insert(next);
        if place == next {
            rows.extend_from_slice(row);
        }
        places.push(place);
    }
    let spared = (places.len() - known.len()) * width * bytes;
    (spared > places.len() * size_of::<i64>()).then_some((rows, places))
}

/// The whole table again; `None` if an integer names no row.
pub fn spread(width: usize, rows: &[f32], places: &[i64]) -> Option<Vec<f32>> {
    let row = |place: &i64| rows.chunks_exact(width).nth(usize::try_from(*place).ok()?);
    Some(places.iter().map(row).collect::<Option<Vec<_>>>()?.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_repeat_are_told_once_and_found_again() {
        let table: Vec<f32> = [1.0f32, 2.0, 1.0, 3.0, 2.0, 1.0].iter().flat_map(|v| [*v; 16]).collect();
        let (rows, places) = shared(16, 2, &table).unwrap();
        assert_eq!((rows.len(), places.as_slice()), (3 * 16, [0, 1, 0, 2, 1, 0].as_slice()));
        assert_eq!(spread(16, &rows, &places).unwrap(), table);
        assert_eq!(spread(16, &rows, &[3]), None);
        assert_eq!(spread(16, &rows, &[-1]), None);
    }

    #[test]
    fn a_table_is_left_alone_where_integers_would_not_pay() {
        assert_eq!(shared(2, 2, &[1.0, 2.0, 1.0, 2.0, 3.0, 4.0]), None);
        assert_eq!(shared(16, 2, &(0..64).map(|v| v as f32).collect::<Vec<_>>()), None);
    }
}
