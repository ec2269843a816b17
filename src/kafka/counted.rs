//! Bytes of a foreign answer whose counts are believed only as far as the answer is long.
//!
//! kafka-protocol reserves room for as many elements as an array announces, before it reads the first: four bytes of a
//! hostile broker would ask for hundreds of gigabytes, and an allocation that fails ends the process. Counts are read as
//! a 32-bit integer (old versions) or as a variable-length one (flexible versions, KIP-482), so both are judged here.

use std::ops::Range;

use bytes::{Buf, Bytes, TryGetError};
use kafka_protocol::protocol::buf::ByteBuf;

/// Variable-length integers are counts, lengths and tags; a tag may be a little greater than what follows it.
const LARGEST_TAG: u64 = 1024;
/// In old versions 32-bit integers are counts, and node identifiers and times as well. One that is smaller is no danger
/// as a count either.
const HARMLESS: usize = 1 << 20;
/// A variable-length integer has seven bits in each byte, and so many bytes at most.
const MOST_BYTES: usize = 5;

/// An answer.
pub struct Counted {
    bytes: Bytes,
    flexible: bool,
    /// What has been read of variable-length integers, the oldest first. Where one begins is not told: a single byte, such
    /// as a boolean, is read in the same way. So each byte that goes on may be the first.
    begun: Vec<u64>,
}

impl Counted {
    /// An answer in a flexible version or in an old one.
    pub fn new(bytes: Bytes, flexible: bool) -> Self {
        Self { bytes, flexible, begun: Vec::new() }
    }

    fn too_many(&self, requested: usize) -> TryGetError {
        TryGetError { requested, available: self.bytes.len() }
    }
}

impl Buf for Counted {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.begun.clear();
        self.bytes.advance(count);
    }

    fn try_get_u8(&mut self) -> Result<u8, TryGetError> {
        let byte = self.bytes.try_get_u8()?;
        let (bits, begun) = (u64::from(byte & 0x7f), self.begun.len());
        for (at, value) in self.begun.iter_mut().enumerate() {
            *value |= bits << (7 * (begun - at));
        }
        self.begun.push(bits);
        let ended = match byte & 0x80 {
            0 => self.begun.len(),
            _ => usize::from(self.begun.len() == MOST_BYTES),
        };
        let greatest = self.begun.drain(..ended).max().unwrap_or(0);
        if greatest > self.bytes.len() as u64 + LARGEST_TAG {
            return Err(self.too_many(usize::try_from(greatest).unwrap_or(usize::MAX)));
        }
        Ok(byte)
    }

    fn try_get_i32(&mut self) -> Result<i32, TryGetError> {
        self.begun.clear();
        let value = self.bytes.try_get_i32()?;
        match usize::try_from(value) {
            Ok(count) if !self.flexible && count > self.bytes.len().max(HARMLESS) => {
                Err(self.too_many(count))
            }
            _ => Ok(value),
        }
    }
}

impl ByteBuf for Counted {
    fn peek_bytes(&mut self, range: Range<usize>) -> Bytes {
        self.bytes.slice(range)
    }

    fn get_bytes(&mut self, size: usize) -> Bytes {
        self.begun.clear();
        self.bytes.split_to(size)
    }
}

#[cfg(test)]
mod tests {
    use bytes::{BufMut, BytesMut};
    use kafka_protocol::{
        messages::{ApiVersionsResponse, DescribeClusterResponse, DescribeConfigsResponse, MetadataResponse},
        protocol::{Decodable, Encodable},
    };

    use super::*;

    #[test]
    fn four_bytes_that_announce_two_thousand_million_elements_are_an_error_and_no_allocation() {
        let mut old = BytesMut::new();
        old.put_i16(0);
        old.put_i32(i32::MAX);
        assert!(ApiVersionsResponse::decode(&mut Counted::new(old.freeze(), false), 0).is_err());
        let mut flexible = BytesMut::new();
        flexible.put_i16(0);
        flexible.put_slice(&[0xff, 0xff, 0xff, 0xff, 0x0f]);
        assert!(ApiVersionsResponse::decode(&mut Counted::new(flexible.freeze(), true), 3).is_err());
        for version in 0..=4 {
            let hostile = Bytes::from_static(&[0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]);
            assert!(
                DescribeConfigsResponse::decode(&mut Counted::new(hostile, version == 4), version).is_err(),
                "{version}"
            );
        }
        let hostile = Bytes::from_static(&[0x7f, 0xff, 0xff, 0xff]);
        assert!(MetadataResponse::decode(&mut Counted::new(hostile, false), 0).is_err());
    }

    /// Found by the fuzzer: a boolean of 0xd8 was taken for the first byte of the count behind it.
    #[test]
    fn a_boolean_before_a_count_hides_nothing_of_it() {
        let mut hostile = BytesMut::new();
        hostile.put_slice(&[0, 0, 0, 0, 2, 0, 0, 1, 0, 7]);
        hostile.put_slice(b"orders");
        hostile.put_slice(&[2, 10]);
        hostile.put_slice(b"listeners");
        hostile.put_slice(&[1, 0, 0xff, 0xd8, 0x80, 0x80, 0x80, 0x80, 5, 0, 0, 0, 0, 0, 0]);
        assert!(DescribeConfigsResponse::decode(&mut Counted::new(hostile.freeze(), true), 4).is_err());
    }

    #[test]
    fn great_node_identifiers_and_negative_numbers_are_read_as_they_are() {
        let brokers = [7, 167_772_165].map(|node| {
            kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker::default()
                .with_broker_id(node.into())
                .with_host("a".into())
                .with_port(9092)
        });
        let sent = DescribeClusterResponse::default()
            .with_brokers(brokers.to_vec())
            .with_controller_id((-1).into())
            .with_cluster_authorized_operations(i32::MIN);
        let mut bytes = BytesMut::new();
        sent.encode(&mut bytes, 0).expect("an answer");
        let read = DescribeClusterResponse::decode(&mut Counted::new(bytes.freeze(), true), 0)
            .expect("the same answer");
        assert_eq!(read, sent);
    }
}
