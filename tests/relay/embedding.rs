//! The embedding example, run as it stands.

#[path = "../../examples/embed.rs"]
mod embed;

#[tokio::test]
async fn the_embedding_example_does_what_it_says() {
    let told = embed::demonstrate().await.unwrap();
    assert!(told.accepted.starts_with("250 2.0.0 Ok "), "{told:?}");
    assert!(told.refused.starts_with("550 5.7.1 Only invoices leave this program"), "{told:?}");
    assert_eq!(told.delivered, 1);
}
