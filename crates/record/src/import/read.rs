//! Reads the inputs and cuts them into units of work.
use std::io::{self, BufRead};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::de::IgnoredAny;
use tokio::sync::mpsc;

use super::mark::Done;
use super::{CHUNK_ENTRIES, Import, ImportError, Pass, SMALL_BYTES};

/// Lines go to a worker together until they have this many bytes.
const UNIT_BYTES: usize = 1024 * 1024;

/// A unit of work on its way to a worker.
pub(super) struct Envelope {
    /// Its place in the order of the whole input, from 0.
    pub(super) sequence: u64,
    pub(super) input: usize,
    /// The last line that it covers.
    pub(super) last_line: u64,
    pub(super) work: Work,
}

pub(super) enum Work {
    /// Lines, or a whole small document.
    Lines(Vec<Line>),
    /// Something to be read entry by entry, beginning at a line.
    Document { line: u64, source: Source },
    /// A line that is too long to be held.
    TooLong { line: u64 },
    /// The input ends here.
    End,
}

/// One or more JSON values, beginning at a line.
pub(super) struct Line {
    pub(super) number: u64,
    pub(super) bytes: Vec<u8>,
}

/// Something that can be read several times.
#[derive(Clone)]
pub(super) enum Source {
    /// The input itself.
    Input(usize),
    /// Bytes in memory.
    Memory(Arc<Vec<u8>>),
}

/// Why reading ended early.
enum Stop {
    /// Nobody listens any more.
    Gone,
    Error(ImportError),
}

/// What came of reading on after a first line that does not end.
enum Pretty {
    /// It was a document.
    Done,
    /// It was a broken line among others; these are the bytes read so far.
    Lines(Vec<u8>),
}

enum Piece {
    End,
    Line,
    TooLong,
}

/// Reads up to the next line feed into `buffer`; a line over `max` bytes is skipped.
fn read_line(reader: &mut dyn BufRead, buffer: &mut Vec<u8>, max: usize) -> io::Result<Piece> {
    buffer.clear();
    let mut long = false;
    let mut any = false;
    loop {
        let part = reader.fill_buf()?;
        if part.is_empty() {
            return Ok(if long {
                Piece::TooLong
            } else if any {
                Piece::Line
            } else {
                Piece::End
            });
        }
        any = true;
        let end = part.iter().position(|byte| *byte == b'\n');
        let count = end.unwrap_or(part.len());
        if buffer.len() + count > max {
            long = true;
            buffer.clear();
        }
        if !long {
            buffer.extend_from_slice(&part[..count]);
        }
        reader.consume(end.map_or(count, |end| end + 1));
        if end.is_some() {
            return Ok(if long { Piece::TooLong } else { Piece::Line });
        }
    }
}

/// Reads all inputs in order.
pub(super) fn all(
    import: &Import,
    pass: &Pass,
    sender: &mpsc::Sender<Envelope>,
) -> Result<(), ImportError> {
    let mut sequence = 0;
    let mut patients = false;
    for input in 0..import.inputs.len() {
        let only = |line: u64| match &pass.only {
            None => true,
            Some(only) => only
                .range((input, line, None)..(input, line + 1, None))
                .next()
                .is_some(),
        };
        if pass.only.as_ref().is_some_and(|only| {
            only.range((input, 0, None)..(input + 1, 0, None))
                .next()
                .is_none()
        }) {
            continue;
        }
        let first = pass.only.is_none();
        let done = if first {
            import.marks.done(input)
        } else {
            Done::default()
        };
        if done.complete {
            import
                .bytes_read
                .fetch_add(import.inputs[input].bytes().unwrap_or(0), Ordering::Relaxed);
            continue;
        }
        // Whether a patient is somebody else's must be known before what belongs to them comes.
        if patients && !import.inputs[input].patients_first {
            let gone = tokio::runtime::Handle::current().block_on(async {
                tokio::select! {
                    () = import.marks.all_before(sequence) => false,
                    () = sender.closed() => true,
                }
            });
            if gone {
                return Ok(());
            }
        }
        patients = import.inputs[input].patients_first;
        let mut send = |work: Work, last_line: u64| {
            let sent = sender.blocking_send(Envelope {
                sequence,
                input,
                last_line,
                work,
            });
            sequence += 1;
            sent.map_err(|_| Stop::Gone)
        };
        match one(import, input, done.lines, first, &only, &mut send) {
            Ok(()) => {}
            Err(Stop::Gone) => return Ok(()),
            Err(Stop::Error(error)) => return Err(error),
        }
    }
    Ok(())
}

fn one(
    import: &Import,
    input: usize,
    skip: u64,
    first: bool,
    only: &dyn Fn(u64) -> bool,
    send: &mut dyn FnMut(Work, u64) -> Result<(), Stop>,
) -> Result<(), Stop> {
    let about = &import.inputs[input];
    let fault = |error: io::Error| Stop::Error(about.error(error.to_string()));
    let counter = AtomicU64::new(0);
    let mut told = 0;
    let mut reader = about.open(Some(&counter)).map_err(fault)?;
    let mut buffer = Vec::new();
    let mut number = 0;
    let mut unit: Vec<Line> = Vec::new();
    let mut unit_bytes = 0;
    let mut begun = false;
    // What a worker will read again must not count twice.
    let mut tell = || {
        let read = counter.load(Ordering::Relaxed);
        if first {
            import.bytes_read.fetch_add(read - told, Ordering::Relaxed);
        }
        told = read;
    };
    loop {
        let piece = read_line(&mut *reader, &mut buffer, about.line_bytes_max()).map_err(fault)?;
        number += 1;
        match piece {
            Piece::End => break,
            Piece::TooLong if !begun && about.path.is_some() => {
                // One line that is longer than any line may be: a document, if it is anything.
                return document(number, Source::Input(input), send);
            }
            Piece::TooLong => {
                flush(&mut unit, &mut unit_bytes, send)?;
                begun = true;
                if number > skip && only(number) {
                    send(Work::TooLong { line: number }, number)?;
                }
                continue;
            }
            Piece::Line => {}
        }
        if buffer.trim_ascii().is_empty() {
            continue;
        }
        if !begun {
            begun = true;
            let whole = serde_json::from_slice::<IgnoredAny>(&buffer);
            if whole.is_err_and(|error| error.is_eof()) {
                match pretty(import, input, number, &mut *reader, buffer, &mut tell, send)? {
                    Pretty::Done => return Ok(()),
                    Pretty::Lines(bytes) => {
                        reader = Box::new(io::Read::chain(io::Cursor::new(bytes), reader));
                        buffer = Vec::new();
                        number -= 1;
                        continue;
                    }
                }
            }
        }
        tell();
        if number <= skip || !only(number) {
            continue;
        }
        if buffer.len() > SMALL_BYTES {
            flush(&mut unit, &mut unit_bytes, send)?;
            let source = Source::Memory(Arc::new(std::mem::take(&mut buffer)));
            send(
                Work::Document {
                    line: number,
                    source,
                },
                number,
            )?;
            continue;
        }
        unit_bytes += buffer.len();
        unit.push(Line {
            number,
            bytes: std::mem::take(&mut buffer),
        });
        if unit_bytes >= UNIT_BYTES || unit.len() >= CHUNK_ENTRIES {
            flush(&mut unit, &mut unit_bytes, send)?;
        }
    }
    tell();
    flush(&mut unit, &mut unit_bytes, send)?;
    send(Work::End, number)
}

fn flush(
    unit: &mut Vec<Line>,
    bytes: &mut usize,
    send: &mut dyn FnMut(Work, u64) -> Result<(), Stop>,
) -> Result<(), Stop> {
    *bytes = 0;
    let Some(last) = unit.last().map(|line| line.number) else {
        return Ok(());
    };
    send(Work::Lines(std::mem::take(unit)), last)
}

/// Whether the second line of a text is a resource by itself, as it would be if the first line were
/// one that was cut off.
fn is_followed_by_resource(text: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Resource {
        #[serde(rename = "resourceType")]
        _kind: IgnoredAny,
    }
    text.split(|byte| *byte == b'\n')
        .filter(|line| !line.trim_ascii().is_empty())
        .nth(1)
        .is_some_and(|line| serde_json::from_slice::<Resource>(line).is_ok())
}

/// Whether a text is JSON from its beginning to its end, one value or several.
fn is_json(text: &[u8]) -> bool {
    serde_json::Deserializer::from_slice(text)
        .into_iter::<IgnoredAny>()
        .all(|value| value.is_ok())
}

/// A document that goes over several lines, of which the first is in `buffer`. When the whole is no
/// document but the second line is a resource, then the first is just a broken line.
fn pretty(
    import: &Import,
    input: usize,
    line: u64,
    reader: &mut dyn BufRead,
    mut buffer: Vec<u8>,
    tell: &mut dyn FnMut(),
    send: &mut dyn FnMut(Work, u64) -> Result<(), Stop>,
) -> Result<Pretty, Stop> {
    let about = &import.inputs[input];
    let max = if about.path.is_some() {
        SMALL_BYTES
    } else {
        about.line_bytes_max()
    };
    buffer.push(b'\n');
    let fault = |error: io::Error| Stop::Error(about.error(error.to_string()));
    let room = (max + 1).saturating_sub(buffer.len());
    io::Read::read_to_end(&mut io::Read::take(reader, room as u64), &mut buffer).map_err(fault)?;
    if is_followed_by_resource(&buffer) && (buffer.len() > max || !is_json(&buffer)) {
        return Ok(Pretty::Lines(buffer));
    }
    if buffer.len() > max && about.path.is_none() {
        let words = format!(
            "a document of more than {max} bytes can't be read from what can be read once only; save it as a file, or send its resources as lines"
        );
        return Err(Stop::Error(about.error(words)));
    }
    if buffer.len() > max {
        document(line, Source::Input(input), send)?;
        return Ok(Pretty::Done);
    }
    tell();
    if buffer.len() > SMALL_BYTES {
        document(line, Source::Memory(Arc::new(buffer)), send)?;
        return Ok(Pretty::Done);
    }
    send(
        Work::Lines(vec![Line {
            number: line,
            bytes: buffer,
        }]),
        line,
    )?;
    send(Work::End, line)?;
    Ok(Pretty::Done)
}

/// A document that is read entry by entry.
fn document(
    line: u64,
    source: Source,
    send: &mut dyn FnMut(Work, u64) -> Result<(), Stop>,
) -> Result<(), Stop> {
    send(Work::Document { line, source }, line)?;
    send(Work::End, line)
}
