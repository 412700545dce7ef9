//! One file that shows everything: no script, nothing to load, and well-formed XML as well.

use std::fmt::Write as _;

use super::figure::{Figure, Shape};
use super::plots::{self, Subjects, is_ours};
use super::tables::{Table, quantiles};
use super::{Report, svg};

const STYLE: &str = include_str!("style.css");

pub(super) fn document(report: &Report) -> anyhow::Result<String> {
    let subjects = Subjects::of(report);
    let mut body = String::new();
    let mut contents = String::from("<li><a href=\"#environment\">Environment</a></li>");
    let mut figures = 0;
    for (n, scenario) in report.scenarios().into_iter().enumerate() {
        let name = escape(scenario);
        let _ = write!(contents, "<li><a href=\"#s{n}\">{name}</a></li>");
        let _ = writeln!(body, "<section id=\"s{n}\">\n<h2>{name}</h2>");
        let chosen = plots::choose(report, &subjects, scenario);
        if !chosen.is_empty() {
            body += "<div class=\"figures\">\n";
        }
        for figure in &chosen {
            body += &drawing(figure, figures)?;
            figures += 1;
        }
        if !chosen.is_empty() {
            body += "</div>\n";
        }
        body += &tables(report, scenario);
        body += &list(&report.notes_on(Some(scenario)));
        body += "</section>\n";
    }
    let environment = &report.environment;
    let commit = environment.source();
    let date = environment.started.date();
    let warning = environment.warning().map_or_else(String::new, |warning| {
        format!("<p class=\"warning\">Warning: {}.</p>\n", escape(warning))
    });
    let facts: String = report
        .facts()
        .iter()
        .map(|(head, text)| format!("<dt>{}</dt><dd>{}</dd>\n", escape(head), escape(text)))
        .collect();
    let notes = list(&report.notes_on(None));
    Ok(format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
         <meta name=\"color-scheme\" content=\"light dark\"/>\n\
         <meta http-equiv=\"Content-Security-Policy\" \
         content=\"default-src 'none'; style-src 'unsafe-inline'\"/>\n\
         <title>clgw-bench {commit} {date}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <header>\n<h1>ClusterLink Gateway: measurements</h1>\n\
         <p>{} x {}, commit <code>{commit}</code>, {date}</p>\n{warning}</header>\n\
         <nav aria-label=\"Contents\"><ol>{contents}</ol></nav>\n<main>\n\
         <section id=\"environment\">\n<h2>Environment</h2>\n<dl>\n{facts}</dl>\n{notes}</section>\n\
         {body}</main>\n<footer><p>Made by clgw-bench. Every sample is in results.json and \
         results.csv beside this file.</p></footer>\n</body>\n</html>\n",
        environment.cpus,
        escape(&environment.cpu),
        commit = escape(&commit),
    ))
}

fn drawing(figure: &Figure, n: usize) -> anyhow::Result<String> {
    let title = escape(&figure.title);
    let mut legend = String::new();
    if let Shape::Curves(curves) = &figure.shape {
        let mixed = curves.series.iter().any(|series| !series.who.ours);
        for series in &curves.series {
            let _ = write!(
                legend,
                "<li class=\"{}\"><span style=\"background: var(--s{})\"></span>{}</li>",
                if series.who.ours && mixed { "ours" } else { "other" },
                series.who.colour % svg::COLOURS,
                escape(&series.who.label)
            );
        }
        legend = format!("<ul class=\"legend\">{legend}</ul>\n");
    }
    Ok(format!(
        "<figure>\n<h3>{title}</h3>\n<div class=\"wide\">{}</div>\n{legend}\
         <figcaption>{}</figcaption>\n</figure>\n",
        svg::draw(figure, &format!("f{n}"))?,
        escape(&figure.caption)
    ))
}

fn tables(report: &Report, scenario: &str) -> String {
    let mut text = String::new();
    for of in Table::of(report, scenario) {
        let rows: Vec<Vec<String>> = of.lines().collect();
        text += &table(&of.caption(), &of.head(), &rows, of.keys.len());
    }
    if let Some((head, rows, texts)) = quantiles(report, scenario) {
        text += &table("quantiles over all repetitions", &head, &rows, texts);
    }
    text
}

/// The first `texts` columns are no figures.
fn table(caption: &str, head: &[String], rows: &[Vec<String>], texts: usize) -> String {
    let mut text =
        format!("<div class=\"wide\"><table>\n<caption>{}</caption>\n<thead><tr>", escape(caption));
    let class = |c: usize| if c < texts { "text" } else { "figure" };
    for (c, cell) in head.iter().enumerate() {
        let _ = write!(text, "<th scope=\"col\" class=\"{}\">{}</th>", class(c), escape(cell));
    }
    text += "</tr></thead>\n<tbody>\n";
    for row in rows {
        let ours = row.iter().take(texts).any(|cell| is_ours(cell));
        text += if ours { "<tr class=\"ours\">" } else { "<tr>" };
        for (c, cell) in row.iter().enumerate() {
            // The range is there to be looked up, the median to be read.
            let cell = match escape(cell).split_once(" [") {
                Some((median, range)) if c >= texts => {
                    format!("{median} <small>[{range}</small>")
                }
                _ => escape(cell),
            };
            let _ = write!(text, "<td class=\"{}\">{cell}</td>", class(c));
        }
        text += "</tr>\n";
    }
    text + "</tbody>\n</table></div>\n"
}

fn list(notes: &[&str]) -> String {
    if notes.is_empty() {
        return String::new();
    }
    let items: String = notes.iter().map(|note| format!("<li>{}</li>\n", escape(note))).collect();
    format!("<ul class=\"notes\">\n{items}</ul>\n")
}

/// For text and for attributes in double quotes.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            // XML has no way to write these.
            c if c.is_control() && c != '\n' && c != '\t' => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::fixture;
    use super::*;

    const HOSTILE: &str = "<script>alert('x')</script> \"&amp;\" http://example.org/ \u{1b}[31m";

    /// Checks that nothing is outside of the file, and that every link and reference is met in it.
    fn check(html: &str) {
        let options = roxmltree::ParsingOptions { allow_dtd: true, ..Default::default() };
        let document = roxmltree::Document::parse_with_options(html, options).unwrap();
        let mut ids = BTreeSet::new();
        let mut wanted = BTreeSet::new();
        for node in document.descendants().filter(roxmltree::Node::is_element) {
            let name = node.tag_name().name();
            let never = ["script", "link", "img", "iframe", "object", "embed", "image", "use"];
            assert!(!never.contains(&name), "<{name}>");
            for attribute in node.attributes() {
                match (attribute.name(), attribute.value()) {
                    ("id", id) => assert!(ids.insert(id), "id {id} twice"),
                    ("href", href) => {
                        wanted.insert(href.strip_prefix('#').expect("a link within the document"));
                    }
                    ("aria-labelledby", of) => wanted.extend(of.split(' ')),
                    (name, value) => {
                        assert!(name != "src" && !name.starts_with("on"), "{name}");
                        assert!(!value.contains("://") && !value.contains("url("), "{value}");
                    }
                }
            }
        }
        assert_eq!(wanted.difference(&ids).collect::<Vec<_>>(), Vec::<&&str>::new());
        let style = document.descendants().find(|n| n.has_tag_name("style")).unwrap();
        let style = style.text().unwrap();
        assert!(!style.contains("url(") && !style.contains("@import"), "{style}");
    }

    #[test]
    fn it_is_well_formed_and_complete_in_itself() {
        let html = document(&fixture::report()).unwrap();
        check(&html);
        assert_eq!(html.matches("<svg ").count(), 7);
        assert_eq!(html.matches("<figcaption>").count(), 7);
        // No colour was left that the dark scheme cannot change.
        let bare = html
            .split("<svg ")
            .skip(1)
            .find(|svg| svg.split("</svg>").next().is_some_and(|svg| svg.contains("=\"#")));
        assert_eq!(bare, None);
        assert!(html.contains("<td class=\"figure\">9.00 <small>[8.00-10.0]</small></td>"));
    }

    #[test]
    fn texts_are_no_markup() {
        let mut report = fixture::report();
        report.environment.command = HOSTILE.to_owned();
        report.note(HOSTILE);
        report.note(format!("{HOSTILE}: x"));
        report.peer(HOSTILE, HOSTILE.to_owned());
        report.pinning(HOSTILE, HOSTILE.to_owned());
        for subject in [HOSTILE, "clgw"] {
            let parameters = [("subject", subject.to_owned()), (HOSTILE, HOSTILE.to_owned())];
            report.add(HOSTILE, &parameters, HOSTILE, HOSTILE, vec![1.0, 2.0]);
            let points = vec![(0.0, 1.0), (0.5, 2.0)];
            report.add_distribution(HOSTILE, &parameters, HOSTILE, HOSTILE, points);
        }
        let html = document(&report).unwrap();
        check(&html);
        assert!(html.contains("&lt;script&gt;alert('x')&lt;/script&gt;"));
    }

    #[test]
    fn zeros_are_drawn() {
        let mut report = Report::new(fixture::environment());
        for (subject, connections, value) in
            [("clgw", "1", 0.0), ("clgw", "1000", 0.0), ("x", "1", 5.0), ("x", "1000", 0.0)]
        {
            let parameters =
                [("connections", connections.to_owned()), ("subject", subject.to_owned())];
            report.add("curves", &parameters, "m", "us", vec![value, value]);
            report.add("bars", &parameters[1..], "m", "us", vec![value]);
            for part in ["a", "b"] {
                let factor = if part == "a" { 0.0 } else { 1.0 };
                let parameters = [("subject", subject.to_owned()), ("part", part.to_owned())];
                report.add("parts", &parameters, "m", "us", vec![value * factor]);
            }
        }
        let html = document(&report).unwrap();
        check(&html);
        assert_eq!(html.matches("<svg ").count(), 3);
    }

    #[test]
    fn nothing_measured_is_a_document_too() {
        let html = document(&Report::new(fixture::environment())).unwrap();
        check(&html);
        assert!(!html.contains("<svg"));
    }
}
