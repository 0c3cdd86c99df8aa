//! The handbook. Six short chapters, read here or as Markdown files beside this one.

#[doc = include_str!("walk.md")]
pub mod walk {}

#[doc = include_str!("replies.md")]
pub mod replies {}

#[doc = include_str!("failures.md")]
pub mod failures {}

#[doc = include_str!("unauthorized.md")]
pub mod unauthorized {}

#[doc = include_str!("vulnerabilities.md")]
pub mod vulnerabilities {}

#[doc = include_str!("embedding.md")]
pub mod embedding {}

#[cfg(test)]
mod tests {
    use crate::mail::replies;

    /// The chapter's table is the table: refresh it with `GATEPOST_REFRESH=1 cargo test --lib manual`.
    #[test]
    fn the_chapter_on_replies_lists_every_row() {
        let rows: String = replies::ALL
            .iter()
            .map(|(name, reply)| {
                let status = reply.status().map(|status| status.to_string()).unwrap_or_default();
                format!("| {} | {status} | {} | `{name}` |\n", reply.code(), reply.text().replace('<', "&lt;"))
            })
            .collect();
        let chapter = include_str!("replies.md");
        let table = chapter.split("| --- |\n").nth(1).unwrap().split("\n\n").next().unwrap();
        if std::env::var_os("GATEPOST_REFRESH").is_some() {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/manual/replies.md");
            std::fs::write(path, chapter.replace(table, rows.trim_end())).unwrap();
        } else {
            assert_eq!(table.trim_end(), rows.trim_end(), "refresh src/manual/replies.md");
        }
    }
}
