//! How the words of the interface look as columns. Numbers and times are `bigint`, so they stay below
//! 2^63 (numbers until the year 2248); tokens need equality only and are the same 64 bits.

use std::error::Error;

use bytes::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

use crate::backend::Blind;
use crate::{LedgerError, Number, Shard, TenantId, Token};

/// One parameter of a statement, with its type: statements are sent with their types and without a
/// name, in one flight, so that nothing of them stays with a connection that a pooler hands on.
pub(super) type Param = (Box<dyn ToSql + Sync + Send>, Type);

/// A blind name or an id, as `uuid`: 16 bytes, and not 17 with a length.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sixteen(pub(super) Blind);

impl ToSql for Sixteen {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(&self.0);
        Ok(IsNull::No)
    }
    fn accepts(kind: &Type) -> bool {
        *kind == Type::UUID
    }
    to_sql_checked!();
}

impl<'a> FromSql<'a> for Sixteen {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(raw.try_into()?))
    }
    fn accepts(kind: &Type) -> bool {
        *kind == Type::UUID
    }
}

macro_rules! params {
    ($($name:ident: $value:ty = $kind:ident),* $(,)?) => {
        $(pub(super) fn $name(value: $value) -> Param {
            (Box::new(value), Type::$kind)
        })*
    };
}

params! {
    small: i16 = INT2,
    int: i32 = INT4,
    big: i64 = INT8,
    boolean: bool = BOOL,
    uuid: Sixteen = UUID,
    maybe_uuid: Option<Sixteen> = UUID,
    text: String = TEXT,
    bytes: Vec<u8> = BYTEA,
    smalls: Vec<i16> = INT2_ARRAY,
    ints: Vec<i32> = INT4_ARRAY,
    bigs: Vec<i64> = INT8_ARRAY,
    maybe_bigs: Vec<Option<i64>> = INT8_ARRAY,
    uuids: Vec<Sixteen> = UUID_ARRAY,
    bools: Vec<bool> = BOOL_ARRAY,
    texts: Vec<String> = TEXT_ARRAY,
    byteas: Vec<Vec<u8>> = BYTEA_ARRAY,
    maybe_byteas: Vec<Option<Vec<u8>>> = BYTEA_ARRAY,
}

/// A number or time that is stored.
pub(super) fn stored(number: u64) -> Result<i64, LedgerError> {
    i64::try_from(number)
        .map_err(|_| LedgerError::Storage(format!("{number} is past what a bigint holds")))
}

/// A bound of a look, which may be beyond all that is stored.
pub(super) fn bound(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn shard(shard: Shard) -> Result<i16, LedgerError> {
    i16::try_from(shard.0).map_err(|_| LedgerError::Storage(format!("there is no shard {shard}")))
}

pub(super) fn tenant(tenant: TenantId) -> Result<i32, LedgerError> {
    i32::try_from(tenant.0)
        .map_err(|_| LedgerError::Storage(format!("tenant {} is past what is kept", tenant.0)))
}

pub(super) fn token(token: Token) -> i64 {
    i64::from_ne_bytes(token.0.to_ne_bytes())
}

pub(super) fn decode_token(stored: i64) -> Token {
    Token(u64::from_ne_bytes(stored.to_ne_bytes()))
}

/// Tokens in one `bytea`.
pub(super) fn tokens(tokens: &[Token]) -> Vec<u8> {
    tokens
        .iter()
        .flat_map(|token| token.0.to_be_bytes())
        .collect()
}

pub(super) fn decode_tokens(bytes: &[u8]) -> Result<Vec<Token>, LedgerError> {
    let (tokens, rest) = bytes.as_chunks::<8>();
    if !rest.is_empty() {
        return Err(damaged("posted"));
    }
    Ok((tokens.iter())
        .map(|token| Token(u64::from_be_bytes(*token)))
        .collect())
}

pub(super) fn damaged(table: &str) -> LedgerError {
    LedgerError::Damaged(format!("a row of {table} does not decode"))
}

/// A row of an answer, whose columns are named by their place.
pub(super) struct Columns<'a> {
    pub(super) row: &'a tokio_postgres::Row,
    pub(super) table: &'static str,
}

impl<'a> Columns<'a> {
    pub(super) fn get<T: FromSql<'a>>(&self, column: usize) -> Result<T, LedgerError> {
        self.row.try_get(column).map_err(|_| damaged(self.table))
    }
    fn unsigned<N: TryFrom<i64>>(&self, value: i64) -> Result<N, LedgerError> {
        N::try_from(value).map_err(|_| damaged(self.table))
    }
    /// A `bigint`.
    pub(super) fn big<N: TryFrom<i64>>(&self, column: usize) -> Result<N, LedgerError> {
        self.unsigned(self.get::<i64>(column)?)
    }
    /// An `integer`.
    pub(super) fn int<N: TryFrom<i64>>(&self, column: usize) -> Result<N, LedgerError> {
        self.unsigned(self.get::<i32>(column)?.into())
    }
    pub(super) fn number(&self, column: usize) -> Result<Number, LedgerError> {
        self.big(column).map(Number)
    }
    pub(super) fn shard(&self, column: usize) -> Result<Shard, LedgerError> {
        self.unsigned(self.get::<i16>(column)?.into()).map(Shard)
    }
    pub(super) fn tenant(&self, column: usize) -> Result<TenantId, LedgerError> {
        self.int(column).map(TenantId)
    }
    pub(super) fn sixteen(&self, column: usize) -> Result<[u8; 16], LedgerError> {
        Ok(self.get::<Sixteen>(column)?.0)
    }
}
