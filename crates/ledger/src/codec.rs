//! Bytes of rows: big-endian fixed integers, LEB128 variable ones.

use crate::LedgerError;

/// Appends `value` in LEB128: seven bits a byte, low bits first.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Takes a row apart; every step that does not fit is [`LedgerError::Damaged`] with the row's name.
pub(crate) struct Decoder<'a> {
    rest: &'a [u8],
    row: &'static str,
}

impl<'a> Decoder<'a> {
    pub(crate) fn new(bytes: &'a [u8], row: &'static str) -> Self {
        Self { rest: bytes, row }
    }
    fn damaged(&self) -> LedgerError {
        LedgerError::Damaged(format!("a {} row does not decode", self.row))
    }
    pub(crate) fn bytes(&mut self, length: usize) -> Result<&'a [u8], LedgerError> {
        let (bytes, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or_else(|| self.damaged())?;
        self.rest = rest;
        Ok(bytes)
    }
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], LedgerError> {
        let bytes = self.bytes(N)?;
        bytes.try_into().map_err(|_| self.damaged())
    }
    pub(crate) fn u8(&mut self) -> Result<u8, LedgerError> {
        Ok(self.array::<1>()?[0])
    }
    pub(crate) fn u16(&mut self) -> Result<u16, LedgerError> {
        Ok(u16::from_be_bytes(self.array()?))
    }
    pub(crate) fn u32(&mut self) -> Result<u32, LedgerError> {
        Ok(u32::from_be_bytes(self.array()?))
    }
    pub(crate) fn u64(&mut self) -> Result<u64, LedgerError> {
        Ok(u64::from_be_bytes(self.array()?))
    }
    pub(crate) fn varint(&mut self) -> Result<u64, LedgerError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(self.damaged());
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.damaged())
    }
    /// A variable integer that must fit a smaller type.
    pub(crate) fn small<T: TryFrom<u64>>(&mut self) -> Result<T, LedgerError> {
        let value = self.varint()?;
        T::try_from(value).map_err(|_| self.damaged())
    }
    pub(crate) fn rest(self) -> &'a [u8] {
        self.rest
    }
    pub(crate) fn remaining(&self) -> usize {
        self.rest.len()
    }
    pub(crate) fn end(self) -> Result<(), LedgerError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.damaged())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_come_back() {
        for value in [
            0,
            1,
            127,
            128,
            16_383,
            16_384,
            u64::from(u32::MAX),
            u64::MAX - 1,
            u64::MAX,
        ] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            let mut decoder = Decoder::new(&out, "test");
            assert_eq!(decoder.varint().unwrap(), value);
            decoder.end().unwrap();
        }
    }

    #[test]
    fn malformed_integers_are_damage() {
        for bytes in [
            &[][..],
            &[0x80],
            &[0xff; 10],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2],
        ] {
            let outcome = Decoder::new(bytes, "test").varint();
            assert!(
                matches!(outcome, Err(LedgerError::Damaged(_))),
                "{bytes:x?}"
            );
        }
        assert!(matches!(
            Decoder::new(&[0x80, 4], "test").small::<u8>(),
            Err(LedgerError::Damaged(_))
        ));
    }
}
