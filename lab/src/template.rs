/// Fills `{{name}}` in an embedded file.
pub(crate) fn fill(template: &str, values: &[(&str, &str)]) -> String {
    values
        .iter()
        .fold(template.to_owned(), |text, (name, value)| text.replace(&format!("{{{{{name}}}}}"), value))
}

#[cfg(test)]
mod tests {
    use super::fill;

    #[test]
    fn names_in_double_braces_are_replaced_and_single_braces_stay() {
        assert_eq!(fill("{a} {{a}} {{b}}{{a}}", &[("a", "1"), ("b", "2")]), "{a} 1 21");
    }
}
