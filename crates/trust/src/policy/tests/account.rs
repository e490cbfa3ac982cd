//! What people may do with their own accounts.
use super::*;

const OLD: &str =
    r#"@id("a") permit (principal in Role::"client", action in Action::"look", resource);"#;
const ALL: &str = r#"@id("a") permit (principal, action, resource);"#;
const NOTHING: &str = r#"@id("a") forbid (principal, action, resource);"#;
const FORBIDS: &str = r#"@id("b") forbid (principal in Role::"squad", action, resource);"#;
const MADE: &str =
    r#"@id("a") permit (principal in Role::"clinician", action == Action::"account", resource);"#;

fn may(files: &[(&str, &str)], role: Role) -> bool {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let policies = Policies::load(Some(folder.path()), 0).unwrap();
    let (agent, target) = (agent(role), target(None, None));
    let judged = policies.judge(&agent, role.purpose(), Action::Account, &target, "r");
    judged.is_ok()
}

#[test]
fn a_set_that_says_nothing_of_accounts_has_what_is_built_in() {
    for role in [Role::Clinician, Role::Squad, Role::Patient] {
        assert!(may(&[("a.cedar", OLD)], role), "{role:?}");
        assert!(!may(&[("a.cedar", NOTHING)], role), "{role:?}");
    }
    assert!(!may(&[("a.cedar", OLD)], Role::Client));
    // A comment is no policy, and a file of this name keeps what it says.
    let comment = format!("// Action::\"account\" is left as it is.\n{OLD}");
    assert!(may(&[("a.cedar", &comment)], Role::Squad));
    let files = [("a.cedar", OLD), ("account.cedar", FORBIDS)];
    assert!(may(&files, Role::Clinician) && !may(&files, Role::Squad));
    // Who names it decides all of it.
    assert!(may(&[("a.cedar", MADE)], Role::Clinician));
    assert!(!may(&[("a.cedar", MADE)], Role::Squad));
    assert!(may(&[("a.cedar", ALL)], Role::Client));
}

#[test]
fn a_schema_from_before_knows_it() {
    let built_in = PolicySet::built_in_files();
    let (_, schema) = built_in
        .into_iter()
        .find(|(name, _)| *name == "cairn.cedarschema")
        .unwrap();
    let before = schema.replace(", account\n", "\n");
    assert_ne!(before, schema);
    let files = [("a.cedar", OLD), ("cairn.cedarschema", before.as_str())];
    assert!(may(&files, Role::Coordinator));
    assert!(!may(&files, Role::Client));
    // Another thing of that name is no declaration.
    let named = before.replace("entity Service;", "entity Service { account?: Bool };");
    assert_ne!(before, named);
    let files = [("a.cedar", OLD), ("cairn.cedarschema", named.as_str())];
    assert!(may(&files, Role::Coordinator));
    let files = [("a.cedar", MADE), ("cairn.cedarschema", before.as_str())];
    assert!(!may(&files, Role::Coordinator));
}
