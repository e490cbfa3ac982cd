//! What a narrative may hold: formatting and nothing that acts (R4, section 2.4, rule `txt-1`). Whoever
//! shows one puts it into a page.

use quick_xml::Reader;
use quick_xml::escape::unescape;
use quick_xml::events::{BytesStart, Event};

/// Elements of formatting, sorted.
const ELEMENTS: [&str; 61] = [
    "a",
    "abbr",
    "acronym",
    "address",
    "area",
    "b",
    "bdo",
    "big",
    "blockquote",
    "br",
    "caption",
    "center",
    "cite",
    "code",
    "col",
    "colgroup",
    "dd",
    "del",
    "dfn",
    "div",
    "dl",
    "dt",
    "em",
    "figcaption",
    "figure",
    "font",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "hr",
    "i",
    "img",
    "ins",
    "kbd",
    "li",
    "map",
    "ol",
    "p",
    "pre",
    "q",
    "s",
    "samp",
    "small",
    "span",
    "strong",
    "sub",
    "sup",
    "table",
    "tbody",
    "td",
    "tfoot",
    "th",
    "thead",
    "tr",
    "tt",
    "u",
    "ul",
    "var",
];

/// Attributes of formatting, sorted; besides these there are name spaces and those of XML itself.
const ATTRIBUTES: [&str; 56] = [
    "abbr",
    "accesskey",
    "align",
    "alt",
    "axis",
    "bgcolor",
    "border",
    "cellpadding",
    "cellspacing",
    "char",
    "charoff",
    "charset",
    "cite",
    "class",
    "clear",
    "color",
    "colspan",
    "compact",
    "coords",
    "datetime",
    "dir",
    "face",
    "frame",
    "headers",
    "height",
    "href",
    "hreflang",
    "hspace",
    "id",
    "idref",
    "ismap",
    "lang",
    "longdesc",
    "name",
    "nohref",
    "noshade",
    "nowrap",
    "rel",
    "rev",
    "rowspan",
    "rules",
    "scope",
    "shape",
    "size",
    "span",
    "src",
    "start",
    "style",
    "summary",
    "tabindex",
    "target",
    "title",
    "type",
    "usemap",
    "valign",
    "width",
];

/// Whether all in a narrative, which is well-formed, is formatting.
pub(super) fn is_harmless(text: &str) -> bool {
    let mut reader = Reader::from_str(text);
    loop {
        match reader.read_event() {
            Ok(Event::Start(tag) | Event::Empty(tag)) if !is_formatting(&tag) => return false,
            Ok(Event::Eof) => return true,
            Ok(_) => {}
            Err(_) => return false,
        }
    }
}

fn is_formatting(tag: &BytesStart<'_>) -> bool {
    let name = tag.name();
    if ELEMENTS.binary_search(&name.as_ref()).is_err() {
        return false;
    }
    tag.attributes().all(|attribute| {
        let Ok(attribute) = attribute else {
            return false;
        };
        let name = attribute.key.as_ref();
        if name == "xmlns" || name.starts_with("xmlns:") || name.starts_with("xml:") {
            return true;
        }
        let known = ATTRIBUTES.binary_search(&name).is_ok() || name.starts_with("data-");
        let follows = matches!(name, "href" | "src" | "cite" | "longdesc" | "usemap");
        known && (!follows || is_plain(&attribute.value))
    })
}

/// Whether an address only leads somewhere, by a scheme that runs nothing.
fn is_plain(value: &str) -> bool {
    let Ok(address) = unescape(value) else {
        return false;
    };
    // Browsers pass over white space and control characters within a scheme.
    let address: String = address
        .chars()
        .filter(|letter| !letter.is_whitespace() && !letter.is_control())
        .take(32)
        .collect::<String>()
        .to_ascii_lowercase();
    !["javascript:", "vbscript:", "livescript:"]
        .iter()
        .any(|scheme| address.starts_with(scheme))
        && (!address.starts_with("data:") || address.starts_with("data:image/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formatting_is_all_there_may_be() {
        assert!(ELEMENTS.is_sorted() && ATTRIBUTES.is_sorted());
        for (text, harmless) in [
            ("<p class=\"a\" style=\"color:red\">x</p>", true),
            ("<a href=\"https://example.org/\">x</a><br/>", true),
            (
                "<a name=\"x\"/><img src=\"data:image/png;base64,AAAA\" alt=\"\"/>",
                true,
            ),
            (
                "<table border=\"1\"><tr><td colspan=\"2\">x</td></tr></table><!-- x -->",
                true,
            ),
            ("<p xml:lang=\"en\" data-x=\"y\">x</p>", true),
            ("<script>x</script>", false),
            ("<p><SCRIPT/></p>", false),
            ("<p onclick=\"x\">y</p>", false),
            ("<iframe src=\"https://example.org\"/>", false),
            ("<form/>", false),
            ("<link/>", false),
            ("<svg:svg/>", false),
            ("<a href=\"javascript:x\">y</a>", false),
            ("<a href=\" java&#10;script:x\">y</a>", false),
            ("<a href=\"JAVASCRIPT&#58;x\">y</a>", false),
            ("<img src=\"data:text/html,x\"/>", false),
        ] {
            let text = format!("<div xmlns=\"http://www.w3.org/1999/xhtml\">{text}</div>");
            assert_eq!(is_harmless(&text), harmless, "{text}");
        }
    }
}
