//! Root keys in a PKCS#11 token: SoftHSM, which nobody here wrote.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::Attribute;
use cryptoki::session::UserType;
use cryptoki::types::AuthPin;
use ledger::{Expected, Ledger, LedgerError, RootKey};

use super::{Embedded, unpack};
use crate::suite::{self, PATIENT, Store, TENANT, put};

const PIN: &str = "87654321";
const MODULES: [&str; 3] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
];

fn module() -> &'static str {
    let found = MODULES.into_iter().find(|path| Path::new(path).exists());
    found.expect("SoftHSM is missing: scripts/test installs it (Debian: softhsm2)")
}

/// Makes a token in a folder of its own and runs the test below in a process that sees that one only:
/// SoftHSM takes its configuration from the environment, which a running process can't change safely.
// Proves: 45 CFR 164.312(a)(2)(iv)
#[test]
fn a_root_key_lives_in_a_token() {
    let folder = tempfile::tempdir().unwrap();
    let (tokens, configuration) = (
        folder.path().join("tokens"),
        folder.path().join("softhsm.conf"),
    );
    std::fs::create_dir(&tokens).unwrap();
    let text = format!(
        "directories.tokendir = {}\nlog.level = ERROR\n",
        tokens.display()
    );
    std::fs::write(&configuration, text).unwrap();
    write_private(&folder.path().join("pin"), &format!("{PIN}\n"));
    module();
    let made = Command::new("softhsm2-util")
        .args(["--init-token", "--free", "--label", "Cairn root"])
        .args(["--so-pin", "12345678", "--pin", PIN])
        .env("SOFTHSM2_CONF", &configuration)
        .output()
        .expect("softhsm2-util runs: scripts/test installs it (Debian: softhsm2)");
    assert!(made.status.success(), "{made:?}");
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored", "token::within_a_token"])
        .env("SOFTHSM2_CONF", &configuration)
        .current_dir(folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}"
    );
}

fn write_private(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

fn here(name: &str) -> PathBuf {
    std::env::current_dir().unwrap().join(name)
}

fn uri(token: &str, key: &str, pin: &Path) -> String {
    format!(
        "pkcs11:token={token};{key}?module-path={}&pin-source={}",
        module(),
        pin.display()
    )
}

fn refused<T>(outcome: Result<T, LedgerError>, why: &str) {
    match outcome {
        Err(LedgerError::RootKey(text)) => {
            assert!(text.contains(why), "{why}: {text}");
            assert!(!text.contains(PIN) && !text.contains("00000000"), "{text}");
        }
        Err(other) => panic!("{why}: {other}"),
        Ok(_) => panic!("{why}: it worked"),
    }
}

/// A key that is there, and is of the wrong kind.
fn make_aes_key(label: &str) {
    let context = Pkcs11::new(module()).unwrap();
    context
        .initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))
        .unwrap();
    let session = context
        .open_rw_session(context.get_slots_with_initialized_token().unwrap()[0])
        .unwrap();
    session
        .login(UserType::User, Some(&AuthPin::new(PIN.into())))
        .unwrap();
    let template = [
        Attribute::Token(true),
        Attribute::ValueLen(32.into()),
        Attribute::Label(label.into()),
    ];
    session
        .generate_key(&Mechanism::AesKeyGen, &template)
        .unwrap();
    drop(session);
    context.finalize().unwrap();
}

async fn write(ledger: &Ledger, id: &str) {
    put(ledger, PATIENT, id, id, Expected::Absent, "x", &[]).await;
}

async fn reads(ledger: &Ledger, id: &str) -> bool {
    ledger.get(TENANT, PATIENT, id).await.unwrap().is_some()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a token in its environment: a_root_key_lives_in_a_token makes one and runs this"]
async fn within_a_token() {
    let pin = here("pin");
    let good = uri("Cairn%20root", "object=store", &pin);
    let in_token = || RootKey::in_token(&good).unwrap();
    let file = || RootKey::from_bytes([8; 32]);

    // No key is made silently, and none is overwritten.
    let store = Embedded::new();
    refused(store.open_with(in_token()), "no secret key store");
    RootKey::create_in_token(&good).unwrap();
    refused(RootKey::create_in_token(&good), "never overwritten");

    let ledger = store.open_with(in_token()).unwrap();
    ledger.create_tenant(TENANT).await.unwrap();
    write(&ledger, "p").await;
    ledger.close().await.unwrap();
    let ledger = store.open_with(in_token()).unwrap();
    assert!(reads(&ledger, "p").await);
    ledger.close().await.unwrap();
    refused(store.open_with(file()), "does not open this store");

    // What can be wrong, each with its own words.
    let other = here("other-pin");
    write_private(&other, "00000000\n");
    let open = |uri: &str| store.open_with(RootKey::in_token(uri).unwrap());
    refused(
        open(&uri("Cairn%20root", "object=store", &other)),
        "refuses the PIN",
    );
    write_private(&other, "\n");
    refused(
        open(&uri("Cairn%20root", "object=store", &other)),
        "holds no PIN",
    );
    std::fs::set_permissions(&other, std::fs::Permissions::from_mode(0o640)).unwrap();
    refused(
        open(&uri("Cairn%20root", "object=store", &other)),
        "mode 0640",
    );
    refused(
        open(&uri("Cairn%20root", "object=store", &here("nowhere"))),
        "No such file",
    );
    refused(
        open(&uri("Another", "object=store", &pin)),
        "no token Another; it has: Cairn root",
    );
    refused(
        open(&uri("Cairn%20root", "object=other", &pin)),
        "no secret key other",
    );
    refused(
        open(&uri("Cairn%20root", "id=%07", &pin)),
        "no secret key id 07",
    );
    refused(
        open(&good.replace("libsofthsm2", "libnone")),
        "can't be loaded",
    );
    make_aes_key("aes");
    refused(
        open(&uri("Cairn%20root", "object=aes", &pin)),
        "no generic secret",
    );
    for id in ["%01", "%02"] {
        RootKey::create_in_token(&uri("Cairn%20root", &format!("object=twice;id={id}"), &pin))
            .unwrap();
    }
    refused(
        open(&uri("Cairn%20root", "object=twice", &pin)),
        "2 secret keys twice",
    );
    refused(
        open(&uri("Cairn%20root", "object=twice;id=%01", &pin)),
        "does not open this store",
    );

    // From the token to a file, back again, and in place.
    let ledger = open(&good).unwrap();
    ledger.rotate_root_key(&file()).await.unwrap();
    write(&ledger, "q").await;
    ledger.close().await.unwrap();
    refused(open(&good), "does not open this store");
    let ledger = store.open_with(file()).unwrap();
    assert!(reads(&ledger, "p").await && reads(&ledger, "q").await);
    let missing = RootKey::in_token(&uri("Another", "object=store", &pin)).unwrap();
    refused(ledger.rotate_root_key(&missing).await, "no token Another");
    ledger.rotate_root_key(&in_token()).await.unwrap();
    ledger.rotate_root_key(&in_token()).await.unwrap();
    ledger.close().await.unwrap();
    refused(store.open_with(file()), "does not open this store");
    assert!(reads(&open(&good).unwrap(), "q").await);

    // A store of the version before has no salt for the token.
    let mut earlier = Embedded::new();
    unpack(&mut earlier, 1);
    refused(earlier.open_with(in_token()), "made with a root key file");
    let ledger = earlier.open();
    ledger.rotate_root_key(&in_token()).await.unwrap();
    ledger.close().await.unwrap();
    suite::earlier::find(&earlier.open_with(in_token()).unwrap()).await;
}
