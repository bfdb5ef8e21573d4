//! Bytes that arrive in pieces. The fuzz target uses it too.

use ha_redis_core::proto::{DecodeError, Decoder, Limits, NotResp, Skipped};
use ha_redis_core::redis::Value;

/// All that comes out of `bytes` when they arrive cut into pieces of the given lengths, over and over.
pub(crate) fn decode(
    limits: Limits,
    bytes: &[u8],
    cuts: &[usize],
) -> (Vec<Result<Value, Skipped>>, Result<Decoder, NotResp>) {
    let (mut decoder, mut values) = (Decoder::with_limits(limits), Vec::new());
    let mut rest = bytes;
    for &cut in cuts.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (mut piece, after) = rest.split_at(cut.min(rest.len()));
        rest = after;
        loop {
            match decoder.decode(&mut piece) {
                Ok(Some(value)) => values.push(Ok(value)),
                Ok(None) => break,
                Err(DecodeError::Skipped(skipped)) => values.push(Err(skipped)),
                Err(DecodeError::NotResp(error)) => return (values, Err(error)),
                Err(error) => unreachable!("{error}"),
            }
        }
        assert!(piece.is_empty(), "None says that all was taken");
    }
    (values, Ok(decoder))
}
