//! Arrow: its messages, each looked at before the format's own reader takes it.
//!
//! A file is read as the stream that lies in it, between the magic bytes and the footer. (That a dictionary may come after the
//! rows that use it, as the format allows in files, no writer makes use of.)

use std::collections::VecDeque;
use std::io::Read;

use arrow_array::RecordBatch;
use arrow_ipc::reader::StreamDecoder;
use arrow_ipc::{MessageHeader, RecordBatch as Layout, root_as_message};

use super::limits::{FOOTER, MESSAGE, mib};
use super::little_endian;

/// Rows of a message.
const ROWS: i64 = 16 << 20;
/// What a message begins with since version 0.15 of the format.
pub(super) const CONTINUES: u32 = 0xFFFF_FFFF;

/// The bytes of a file that lie before its footer.
///
/// # Errors
/// Where it does not end as a file does.
pub(super) fn before_footer(whole: u64, end: &[u8]) -> Result<u64, String> {
    let cut_off = || "it does not end as Arrow does: it seems to be cut off".to_owned();
    let (length, magic) = end.split_at_checked(4).ok_or_else(cut_off)?;
    if magic != b"ARROW1" {
        return Err(cut_off());
    }
    let length = little_endian(length) as usize;
    if length > FOOTER {
        return Err(format!("its footer has {}, at most {} are read", mib(length), mib(FOOTER)));
    }
    whole.checked_sub(10 + length as u64).ok_or_else(cut_off)
}

/// The batches of a stream.
pub(super) struct Messages<R> {
    stream: R,
    decoder: StreamDecoder,
    ready: VecDeque<RecordBatch>,
    /// Bytes of all dictionaries so far.
    dictionaries: usize,
    over: bool,
}

impl<R: Read> Messages<R> {
    pub fn new(stream: R) -> Self {
        Self { stream, decoder: StreamDecoder::new(), ready: VecDeque::new(), dictionaries: 0, over: false }
    }

    /// The next message with its body; nothing at the end of the stream.
    fn message(&mut self) -> Result<Option<Vec<u8>>, String> {
        let mut head = Vec::new();
        self.fill(&mut head, 4)?;
        if head.is_empty() {
            return Ok(None);
        }
        if little_endian(&head) == CONTINUES {
            head.clear();
            self.fill(&mut head, 4)?;
        }
        if head.len() < 4 {
            return Err(cut_off());
        }
        let length = little_endian(&head) as usize;
        if length == 0 {
            return Ok(None);
        }
        if length > FOOTER {
            return Err(format!("a message is described by {}, at most {} are read", mib(length), mib(FOOTER)));
        }
        let mut bytes = [CONTINUES.to_le_bytes(), (length as u32).to_le_bytes()].concat();
        self.fill(&mut bytes, length)?;
        let message = bytes.get(8..8 + length).ok_or_else(cut_off)?;
        let message = root_as_message(message).map_err(|error| format!("a message cannot be read: {error}"))?;
        let body = usize::try_from(message.bodyLength()).map_err(|_| "a message of less than no bytes".to_owned())?;
        if body > MESSAGE {
            return Err(format!("a message of {}, at most {} are read", mib(body), mib(MESSAGE)));
        }
        self.fill(&mut bytes, body)?;
        if bytes.len() < 8 + length + body {
            return Err(cut_off());
        }
        let (described, body) = bytes[8..].split_at(length);
        let message = root_as_message(described).map_err(|error| error.to_string())?;
        match message.header_type() {
            MessageHeader::RecordBatch => {
                message.header_as_record_batch().map_or(Ok(0), |batch| unpacked(&batch, body))?;
            }
            MessageHeader::DictionaryBatch => {
                let data = message.header_as_dictionary_batch().and_then(|dictionary| dictionary.data());
                self.dictionaries += data.map_or(Ok(0), |batch| unpacked(&batch, body))?;
                if self.dictionaries > MESSAGE {
                    return Err(format!("its dictionaries have more than {}", mib(MESSAGE)));
                }
            }
            _ => {}
        }
        Ok(Some(bytes))
    }

    /// Adds so many bytes, or those that are left.
    fn fill(&mut self, bytes: &mut Vec<u8>, count: usize) -> Result<(), String> {
        (&mut self.stream).take(count as u64).read_to_end(bytes).map(|_| ()).map_err(|error| error.to_string())
    }
}

fn cut_off() -> String {
    "it ends inside of a message: it seems to be cut off".to_owned()
}

/// Bytes that the body of a batch unpacks to.
///
/// # Errors
/// Where these, or its rows, are too many.
fn unpacked(batch: &Layout<'_>, body: &[u8]) -> Result<usize, String> {
    if batch.length() > ROWS {
        return Err(format!("a message of {} rows, at most {ROWS} are read", batch.length()));
    }
    if batch.compression().is_none() {
        return Ok(body.len());
    }
    // A packed buffer begins with the length that it unpacks to; less than none says that it is not packed.
    let claimed = |offset: i64, length: i64| {
        let (start, length) = (usize::try_from(offset).ok()?, usize::try_from(length).ok()?);
        let buffer = body.get(start..start.checked_add(length)?)?;
        let claimed = buffer.first_chunk().map_or(0, |claimed| i64::from_le_bytes(*claimed));
        Some(usize::try_from(claimed).unwrap_or(length))
    };
    let mut all = 0usize;
    for buffer in batch.buffers().iter().flatten() {
        let claimed = claimed(buffer.offset(), buffer.length()).ok_or("a buffer lies outside of its message")?;
        all = all.saturating_add(claimed);
    }
    if all > MESSAGE {
        return Err(format!("a message that unpacks to {}, at most {} are read", mib(all), mib(MESSAGE)));
    }
    Ok(all)
}

impl<R: Read> Iterator for Messages<R> {
    type Item = Result<RecordBatch, String>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.ready.is_empty() && !self.over {
            let decoded = self.message().and_then(|message| {
                let Some(message) = message else {
                    self.over = true;
                    return Ok(());
                };
                let mut buffer = message.into();
                while let Some(batch) = self.decoder.decode(&mut buffer).map_err(|error| error.to_string())? {
                    self.ready.push_back(batch);
                }
                Ok(())
            });
            if let Err(problem) = decoded {
                self.over = true;
                return Some(Err(problem));
            }
        }
        self.ready.pop_front().map(Ok)
    }
}
