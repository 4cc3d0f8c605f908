//! The bytes and times of each stage in one forward and backward pass.
//!
//! ```text
//! live bytes
//!          entry        end      entry of the next stage
//!            |  stage    |  rest  |  stage  |  rest, loss, rest  | stage's backward | ... | first stage's backward
//! marks    Begin        End     Begin      End                Backward          Backward                     finish
//! ```
//!
//! Backward goes through the stages in reverse order, because libtorch runs the node first that was made last. What
//! backward does between two stages counts to the later of the two.

/// What a mark stands at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// A stage begins in forward.
    Begin,
    /// The stage ended in forward, and its input is freed if nobody needs it.
    End,
    /// Backward has the gradient of the stage's output and goes on to the stage.
    Backward,
    /// The pass ended.
    Finish,
}

/// A reading at the border of a stage. Bytes are those beyond the beginning of the pass.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mark {
    /// The stage's number.
    pub stage: usize,
    /// The border.
    pub at: At,
    /// Bytes of live tensors now.
    pub live_bytes: i64,
    /// The most bytes of live tensors since the mark before.
    pub peak_bytes: i64,
    /// Time since the mark before.
    pub micros: f64,
}

/// A stage in one pass. Bytes are those beyond the beginning of the pass.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Section {
    pub(crate) stage: usize,
    pub(crate) entry_bytes: i64,
    pub(crate) end_bytes: i64,
    pub(crate) forward_peak_bytes: i64,
    pub(crate) backward_peak_bytes: i64,
    /// What forward holds beyond `end_bytes` where the next stage begins.
    pub(crate) rest_held_bytes: i64,
    pub(crate) rest_peak_bytes: i64,
    pub(crate) forward_micros: f64,
    pub(crate) backward_micros: f64,
}

impl Section {
    fn end_backward(&mut self, mark: &Mark) {
        self.backward_peak_bytes = mark.peak_bytes;
        self.backward_micros = mark.micros;
    }
}

/// The bytes and times of one pass.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StageTrace {
    /// The most bytes before the first stage.
    pub(crate) first_peak_bytes: i64,
    pub(crate) sections: Vec<Section>,
    /// The most bytes of live tensors in the whole pass.
    pub peak_bytes: u64,
    /// Time of the whole pass.
    pub micros: f64,
}

impl StageTrace {
    /// The same bytes with the times of `other` where they are shorter: what else the machine does only adds to a time.
    #[must_use]
    pub fn with_shorter_times(mut self, other: &Self) -> Self {
        for (mine, others) in self.sections.iter_mut().zip(&other.sections) {
            mine.forward_micros = mine.forward_micros.min(others.forward_micros);
            mine.backward_micros = mine.backward_micros.min(others.backward_micros);
        }
        self.micros = self.micros.min(other.micros);
        self
    }

    /// The stages between the marks of a pass, which the mark [`At::Finish`] ends. Of several passes after one another the
    /// first counts. `None` if a stage occurs twice in it or backward is not the reverse of forward.
    #[must_use]
    pub fn from_marks(marks: &[Mark]) -> Option<Self> {
        let mut sections: Vec<Section> = Vec::new();
        let mut first_peak_bytes = 0;
        let mut backward = None;
        let mut is_open = false;
        let last = marks.last().filter(|mark| mark.at == At::Finish)?;
        for mark in marks {
            match (mark.at, backward) {
                (At::Begin, None) if !is_open => {
                    is_open = true;
                    match sections.last_mut() {
                        Some(last) => {
                            last.rest_held_bytes = mark.live_bytes - last.end_bytes;
                            last.rest_peak_bytes = mark.peak_bytes;
                        }
                        None => first_peak_bytes = mark.peak_bytes,
                    }
                    if sections.iter().any(|section| section.stage == mark.stage) {
                        return None;
                    }
                    let (stage, entry_bytes) = (mark.stage, mark.live_bytes);
                    sections.push(Section { stage, entry_bytes, ..Section::default() });
                }
                (At::End, None) if is_open => {
                    is_open = false;
                    let last = sections.last_mut().filter(|last| last.stage == mark.stage)?;
                    last.end_bytes = mark.live_bytes;
                    last.forward_peak_bytes = mark.peak_bytes;
                    last.forward_micros = mark.micros;
                }
                (At::Backward, None) if !is_open => {
                    let last = sections.last_mut().filter(|last| last.stage == mark.stage)?;
                    last.rest_peak_bytes = mark.peak_bytes;
                    backward = Some(sections.len() - 1);
                }
                (At::Backward, Some(of)) => {
                    sections[of].end_backward(mark);
                    let next = of.checked_sub(1).filter(|next| sections[*next].stage == mark.stage)?;
                    backward = Some(next);
                }
                // The pass ends where the next one begins.
                (At::Begin | At::Finish, Some(0)) => {
                    sections[0].end_backward(mark);
                    let peak = marks.iter().map(|mark| mark.peak_bytes).max().unwrap_or(last.peak_bytes);
                    let peak_bytes = u64::try_from(peak).unwrap_or(0);
                    let micros = marks.iter().map(|mark| mark.micros).sum();
                    return Some(Self { first_peak_bytes, sections, peak_bytes, micros });
                }
                _ => return None,
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(at: At, stage: usize, live_bytes: i64, peak_bytes: i64) -> Mark {
        Mark { stage, at, live_bytes, peak_bytes, micros: 1.0 }
    }

    fn marks() -> Vec<Mark> {
        vec![
            mark(At::Begin, 4, 10, 30),
            mark(At::End, 4, 50, 60),
            mark(At::Begin, 7, 55, 57),
            mark(At::End, 7, 75, 90),
            mark(At::Backward, 7, 80, 95),
            mark(At::Backward, 4, 60, 99),
            mark(At::Finish, 0, 5, 70),
        ]
    }

    #[test]
    fn marks_of_a_pass_give_the_bytes_of_its_stages() {
        let trace = StageTrace::from_marks(&marks()).unwrap();
        let first = Section {
            stage: 4,
            entry_bytes: 10,
            end_bytes: 50,
            forward_peak_bytes: 60,
            backward_peak_bytes: 70,
            rest_held_bytes: 5,
            rest_peak_bytes: 57,
            forward_micros: 1.0,
            backward_micros: 1.0,
        };
        let second = Section {
            stage: 7,
            entry_bytes: 55,
            end_bytes: 75,
            forward_peak_bytes: 90,
            backward_peak_bytes: 99,
            rest_held_bytes: 0,
            rest_peak_bytes: 95,
            ..first
        };
        let sections = vec![first, second];
        assert_eq!(trace, StageTrace { first_peak_bytes: 30, sections, peak_bytes: 99, micros: 7.0 });
    }

    #[test]
    fn of_several_passes_the_first_gives_the_stages_and_all_give_the_peak() {
        let mut twice = marks();
        let finish = twice.pop().unwrap();
        twice.extend(marks());
        // What lies between the passes counts to the end of the first.
        twice[6].peak_bytes = finish.peak_bytes;
        let one = StageTrace::from_marks(&marks()).unwrap();
        assert_eq!(StageTrace::from_marks(&twice), Some(StageTrace { micros: 13.0, ..one }));
    }

    #[test]
    fn marks_that_are_not_of_one_pass_give_nothing() {
        let whole = marks();
        for n in 0..whole.len() {
            assert_eq!(StageTrace::from_marks(&whole[..n]), None, "the first {n}");
            assert_eq!(StageTrace::from_marks(&[&whole[..n], &whole[n + 1..]].concat()), None, "without {n}");
        }
        let mut twice = whole.clone();
        twice[2].stage = 4;
        twice[3].stage = 4;
        assert_eq!(StageTrace::from_marks(&twice), None, "a stage that occurs twice");
        let mut other_order = whole;
        other_order.swap(4, 5);
        assert_eq!(StageTrace::from_marks(&other_order), None);
    }
}
