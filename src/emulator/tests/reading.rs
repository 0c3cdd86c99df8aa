//! The read operations.

use super::*;
use serde_json::json;

async fn get(client: &Client, path: &str) -> client::Answer {
    client.call("GET", path, b"").await.expect("an answer")
}

#[tokio::test]
async fn the_account_has_access_quota_and_sent_recipients() {
    let (emulator, client) = start(EmulatorSettings::default()).await;
    client.send("ann@example.com", "bob@example.net").await.expect("an answer");
    let account = get(&client, "/v2/email/account").await.json();
    assert_eq!(account["ProductionAccessEnabled"], true);
    assert_eq!(account["EnforcementStatus"], "HEALTHY");
    assert_eq!(account["SendQuota"]["Max24HourSend"], -1.0);
    assert_eq!(account["SendQuota"]["SentLast24Hours"], 1.0);
    emulator.stop().await;

    let sandbox = EmulatorSettings { account: AccountSettings::sandbox(), ..EmulatorSettings::default() };
    let (emulator, client) = start(sandbox).await;
    let account = get(&client, "/v2/email/account").await.json();
    assert_eq!(account["ProductionAccessEnabled"], false);
    assert_eq!(account["SendQuota"], json!({"Max24HourSend": 200.0, "MaxSendRate": 1.0, "SentLast24Hours": 0.0}));
    emulator.stop().await;
}

#[tokio::test]
async fn named_resources_are_found_or_not() {
    let mut settings = EmulatorSettings::default();
    settings.identities.push(Identity {
        name: "ann@example.net".to_owned(),
        verified: false,
        configuration_set: Some("gatepost-dev".to_owned()),
    });
    settings.suppressed.insert("gone@example.net".to_owned(), SuppressionReason::Complaint);
    let (emulator, client) = start(settings).await;
    let domain = get(&client, "/v2/email/identities/example.com").await.json();
    assert_eq!((&domain["IdentityType"], &domain["VerificationStatus"]), (&json!("DOMAIN"), &json!("SUCCESS")));
    let address = get(&client, "/v2/email/identities/ann%40example.net").await.json();
    assert_eq!(address["IdentityType"], "EMAIL_ADDRESS");
    assert_eq!(address["VerifiedForSendingStatus"], false);
    assert_eq!(address["ConfigurationSetName"], "gatepost-dev");
    let set = get(&client, "/v2/email/configuration-sets/gatepost-dev").await.json();
    assert_eq!(set["SendingOptions"]["SendingEnabled"], true);
    let suppressed = get(&client, "/v2/email/suppression/addresses/gone%40example.net").await.json();
    assert_eq!(suppressed["SuppressedDestination"]["Reason"], "COMPLAINT");
    for path in [
        "/v2/email/identities/a.example.com",
        "/v2/email/configuration-sets/nope",
        "/v2/email/suppression/addresses/ann%40example.net",
    ] {
        assert_eq!(get(&client, path).await.error(), (404, "NotFoundException"), "{path}");
    }
    assert_eq!(get(&client, "/v2/email/contact-lists").await.error(), (404, "UnknownOperationException"));
    emulator.stop().await;
}

#[tokio::test]
async fn a_denied_action_is_denied_and_the_others_are_not() {
    let mut settings = EmulatorSettings::default();
    settings.denied_actions.insert("ses:GetAccount".to_owned(), Denial::Implicit("VPC endpoint policy".to_owned()));
    let (emulator, client) = start(settings).await;
    let answer = get(&client, "/v2/email/account").await;
    assert_eq!(answer.error(), (403, "AccessDeniedException"));
    assert_eq!(
        answer.message(),
        "User: arn:aws:iam::111122223333:user/emulated is not authorized to perform: ses:GetAccount on resource: * \
         because no VPC endpoint policy allows the ses:GetAccount action"
    );
    assert_eq!(get(&client, "/v2/email/identities/example.com").await.status, 200);
    emulator.stop().await;
}
