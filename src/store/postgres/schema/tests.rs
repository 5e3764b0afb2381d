use super::*;

#[test]
fn names_that_would_need_quotes_are_refused() {
    for (schema, prefix) in
        [("", ""), ("Auth", ""), ("a b", ""), ("a", "x;"), ("1a", ""), ("a", "B")]
    {
        let refused = TableNames::new(schema, prefix).err();
        assert_eq!(refused, Some(PostgresFault::InvalidName), "{schema} {prefix}");
    }
    let refused = TableNames::new(&"a".repeat(MAX_NAME + 1), "").err();
    assert_eq!(refused, Some(PostgresFault::InvalidName));
    let names = TableNames::new("auth", "device_").unwrap();
    assert_eq!(names.of("session"), "\"auth\".device_session");
}

#[test]
fn no_name_is_left_open_in_the_sql() {
    let names = TableNames::new("auth", "device_").unwrap();
    for sql in [names.migrations_sql(), names.grants_sql("app\"x")] {
        assert!(!sql.contains(['{', '}']), "{sql}");
    }
    assert!(names.grants_sql("app\"x").contains("TO \"app\"\"x\";"));
}
