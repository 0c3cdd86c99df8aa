//! SES's service authorization data: actions, the resource types that each is checked against, and the condition keys
//! that SES provides for it.
//!
//! Data only; [`super::lint`] uses it. Both APIs and the mail manager share the prefix `ses`. Global keys are listed
//! for spelling only; which of them a request carries depends on the principal and the way of access. Service
//! Authorization Reference, "Actions, resources, and condition keys for Amazon SES" and the two pages beside it.

use super::{Context, pattern::Pattern};

/// One action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Action {
    /// Without prefix: `SendRawEmail`.
    pub name: &'static str,
    types: &'static str,
    keys: &'static str,
}

impl Action {
    /// The resource types that the action is checked against; empty: it supports only `*`.
    pub(crate) fn resource_types(&self) -> impl Iterator<Item = &'static str> {
        self.types.split_ascii_whitespace()
    }

    /// Whether its statements must have `Resource: "*"`.
    pub(crate) const fn takes_only_star(&self) -> bool {
        self.types.is_empty()
    }

    /// Whether SES fills in this key, `ses:FromAddress`, for it.
    pub(crate) fn provides(&self, key: &str) -> bool {
        key.split_once(':').is_some_and(|(_, name)| self.keys.split(' ').any(|known| known.eq_ignore_ascii_case(name)))
    }
}

/// Every action.
pub(crate) fn actions() -> impl Iterator<Item = Action> {
    ACTIONS.iter().map(|&(name, types, keys)| Action { name, types, keys })
}

/// The actions that an `Action` element such as `ses:Send*` matches. Empty for another service, or if no action
/// matches.
pub(crate) fn actions_named(element: &str) -> Vec<Action> {
    let none = Context::new();
    let (service, name) = element.split_once(':').unwrap_or(("*", element));
    let fits = |pattern: &str, text: &str| {
        Pattern::compile(pattern, true, false).is_ok_and(|pattern| pattern.matches(text, &none, true))
    };
    if !fits(service, "ses") {
        return Vec::new();
    }
    let Ok(name) = Pattern::compile(name, true, false) else { return Vec::new() };
    actions().filter(|action| name.matches(action.name, &none, true)).collect()
}

/// Every type of resource.
pub(crate) fn resource_types() -> impl Iterator<Item = &'static str> {
    ACTIONS.iter().flat_map(|(_, types, _)| types.split_ascii_whitespace())
}

/// Every key of SES's own, with prefix.
pub(crate) fn own_keys() -> impl Iterator<Item = String> {
    let mut keys: Vec<&str> = ACTIONS.iter().flat_map(|(_, _, keys)| keys.split_ascii_whitespace()).collect();
    keys.sort_unstable();
    keys.dedup();
    keys.into_iter().map(|key| format!("ses:{key}"))
}

/// Whether a global key is known; one with a slash is a family (`aws:PrincipalTag/team`).
pub(crate) fn is_global_key(key: &str) -> bool {
    let key = key.split_once('/').map_or(key, |(family, _)| family);
    GLOBAL_KEYS.iter().any(|known| known.eq_ignore_ascii_case(key))
}

/// Keys with several values, which require `ForAllValues:` or `ForAnyValue:`.
pub(crate) const MULTIVALUED_KEYS: &[&str] = &[
    "ses:Recipients",
    "aws:CalledVia",
    "aws:PrincipalOrgPaths",
    "aws:PrincipalServiceNamesList",
    "aws:ResourceOrgPaths",
    "aws:SourceOrgPaths",
    "aws:TagKeys",
];

/// Global keys whose value is the id of a system: an endpoint policy allows neither wildcards nor numeric operators on
/// them. AWS PrivateLink Guide, "Control access to VPC endpoints using endpoint policies".
pub(crate) const SYSTEM_ID_KEYS: &[&str] = &[
    "aws:PrincipalAccount",
    "aws:PrincipalOrgID",
    "aws:ResourceAccount",
    "aws:ResourceOrgID",
    "aws:SourceAccount",
    "aws:SourceOrgID",
    "aws:SourceOwner",
    "aws:SourceVpc",
    "aws:SourceVpce",
    "aws:VpceAccount",
    "aws:VpceOrgID",
];

/// IAM User Guide, "AWS global condition context keys".
pub(crate) const GLOBAL_KEYS: &[&str] = &[
    "aws:AssumedRoot",
    "aws:CalledVia",
    "aws:CalledViaFirst",
    "aws:CalledViaLast",
    "aws:ChatbotSourceArn",
    "aws:CurrentTime",
    "aws:Ec2InstanceSourcePrivateIPv4",
    "aws:Ec2InstanceSourceVpc",
    "aws:EpochTime",
    "aws:FederatedProvider",
    "aws:MultiFactorAuthAge",
    "aws:MultiFactorAuthPresent",
    "aws:PrincipalAccount",
    "aws:PrincipalArn",
    "aws:PrincipalIsAWSService",
    "aws:PrincipalOrgID",
    "aws:PrincipalOrgPaths",
    "aws:PrincipalServiceName",
    "aws:PrincipalServiceNamesList",
    "aws:PrincipalTag",
    "aws:PrincipalType",
    "aws:Referer",
    "aws:RequestTag",
    "aws:RequestedRegion",
    "aws:ResourceAccount",
    "aws:ResourceOrgID",
    "aws:ResourceOrgPaths",
    "aws:ResourceTag",
    "aws:SecureTransport",
    "aws:SourceAccount",
    "aws:SourceArn",
    "aws:SourceIdentity",
    "aws:SourceIp",
    "aws:SourceOrgID",
    "aws:SourceOrgPaths",
    "aws:SourceOwner",
    "aws:SourceVpc",
    "aws:SourceVpcArn",
    "aws:SourceVpce",
    "aws:TagKeys",
    "aws:TokenIssueTime",
    "aws:UserAgent",
    "aws:ViaAWSService",
    "aws:VpcSourceIp",
    "aws:VpceAccount",
    "aws:VpceOrgID",
    "aws:VpceOrgPaths",
    "aws:userid",
    "aws:username",
];

/// Action, types of resource, SES's own keys.
#[rustfmt::skip]
const ACTIONS: &[(&str, &str, &str)] = &[
    ("AllowVendedLogDeliveryForResource", "mailmanager-ingress-point mailmanager-rule-set", ""),
    ("BatchGetMetricData", "configuration-set identity", "ApiVersion"),
    ("CancelExportJob", "export-job", "ApiVersion ExportSourceType"),
    ("CloneReceiptRuleSet", "", "ApiVersion"),
    ("CreateAddonInstance", "", "AddonSubscriptionArn"),
    ("CreateAddonSubscription", "", ""),
    ("CreateAddressList", "", ""),
    ("CreateAddressListImportJob", "mailmanager-address-list", ""),
    ("CreateArchive", "", ""),
    ("CreateConfigurationSet", "configuration-set dedicated-ip-pool mailmanager-archive", "ApiVersion"),
    ("CreateConfigurationSetEventDestination", "configuration-set", "ApiVersion"),
    ("CreateConfigurationSetTrackingOptions", "", "ApiVersion"),
    ("CreateContact", "contact-list", "ApiVersion"),
    ("CreateContactList", "contact-list", "ApiVersion"),
    ("CreateCustomVerificationEmailTemplate", "custom-verification-email-template", "ApiVersion"),
    ("CreateDedicatedIpPool", "dedicated-ip-pool", "ApiVersion"),
    ("CreateDeliverabilityTestReport", "identity", "ApiVersion"),
    ("CreateEmailIdentity", "identity", "ApiVersion"),
    ("CreateEmailIdentityPolicy", "identity", "ApiVersion"),
    ("CreateEmailTemplate", "template", "ApiVersion"),
    ("CreateExportJob", "", "ApiVersion ExportSourceType"),
    ("CreateImportJob", "", "ApiVersion"),
    ("CreateIngressPoint", "", "MailManagerRuleSetArn MailManagerTrafficPolicyArn"),
    ("CreateMultiRegionEndpoint", "", "ApiVersion"),
    ("CreateReceiptFilter", "", "ApiVersion"),
    ("CreateReceiptRule", "", "ApiVersion"),
    ("CreateReceiptRuleSet", "", "ApiVersion"),
    ("CreateRelay", "", ""),
    ("CreateRuleSet", "", ""),
    ("CreateTemplate", "", "ApiVersion"),
    ("CreateTenant", "tenant", "ApiVersion"),
    ("CreateTenantResourceAssociation", "configuration-set identity template tenant", "ApiVersion"),
    ("CreateTrafficPolicy", "", ""),
    ("DeleteAddonInstance", "addon-instance", ""),
    ("DeleteAddonSubscription", "addon-subscription", ""),
    ("DeleteAddressList", "mailmanager-address-list", ""),
    ("DeleteArchive", "mailmanager-archive", ""),
    ("DeleteConfigurationSet", "configuration-set", "ApiVersion"),
    ("DeleteConfigurationSetEventDestination", "configuration-set", "ApiVersion"),
    ("DeleteConfigurationSetTrackingOptions", "", "ApiVersion"),
    ("DeleteContact", "contact-list", "ApiVersion"),
    ("DeleteContactList", "contact-list", "ApiVersion"),
    ("DeleteCustomVerificationEmailTemplate", "custom-verification-email-template", "ApiVersion"),
    ("DeleteDedicatedIpPool", "dedicated-ip-pool", "ApiVersion"),
    ("DeleteEmailIdentity", "identity", "ApiVersion"),
    ("DeleteEmailIdentityPolicy", "identity", "ApiVersion"),
    ("DeleteEmailTemplate", "template", "ApiVersion"),
    ("DeleteIdentity", "", "ApiVersion"),
    ("DeleteIdentityPolicy", "", "ApiVersion"),
    ("DeleteIngressPoint", "mailmanager-ingress-point", ""),
    ("DeleteMultiRegionEndpoint", "multi-region-endpoint", "ApiVersion"),
    ("DeleteReceiptFilter", "", "ApiVersion"),
    ("DeleteReceiptRule", "", "ApiVersion"),
    ("DeleteReceiptRuleSet", "", "ApiVersion"),
    ("DeleteRelay", "mailmanager-smtp-relay", ""),
    ("DeleteRuleSet", "mailmanager-rule-set", ""),
    ("DeleteSuppressedDestination", "", "ApiVersion"),
    ("DeleteTemplate", "", "ApiVersion"),
    ("DeleteTenant", "tenant", "ApiVersion"),
    ("DeleteTenantResourceAssociation", "configuration-set identity template tenant", "ApiVersion"),
    ("DeleteTrafficPolicy", "mailmanager-traffic-policy", ""),
    ("DeleteVerifiedEmailAddress", "", "ApiVersion"),
    ("DeregisterMemberFromAddressList", "mailmanager-address-list", ""),
    ("DescribeActiveReceiptRuleSet", "", "ApiVersion"),
    ("DescribeConfigurationSet", "", "ApiVersion"),
    ("DescribeReceiptRule", "", "ApiVersion"),
    ("DescribeReceiptRuleSet", "", "ApiVersion"),
    ("GetAccount", "", "ApiVersion"),
    ("GetAccountSendingEnabled", "", "ApiVersion"),
    ("GetAddonInstance", "addon-instance", ""),
    ("GetAddonSubscription", "addon-subscription", ""),
    ("GetAddressList", "mailmanager-address-list", ""),
    ("GetAddressListImportJob", "mailmanager-address-list", ""),
    ("GetArchive", "mailmanager-archive", ""),
    ("GetArchiveExport", "mailmanager-archive", ""),
    ("GetArchiveMessage", "mailmanager-archive", ""),
    ("GetArchiveMessageContent", "mailmanager-archive", ""),
    ("GetArchiveSearch", "mailmanager-archive", ""),
    ("GetArchiveSearchResults", "mailmanager-archive", ""),
    ("GetBlacklistReports", "", "ApiVersion"),
    ("GetConfigurationSet", "configuration-set", "ApiVersion"),
    ("GetConfigurationSetEventDestinations", "configuration-set", "ApiVersion"),
    ("GetContact", "contact-list", "ApiVersion"),
    ("GetContactList", "contact-list", "ApiVersion"),
    ("GetCustomVerificationEmailTemplate", "custom-verification-email-template", "ApiVersion"),
    ("GetDedicatedIp", "", "ApiVersion"),
    ("GetDedicatedIpPool", "dedicated-ip-pool", "ApiVersion"),
    ("GetDedicatedIps", "dedicated-ip-pool", "ApiVersion"),
    ("GetDeliverabilityDashboardOptions", "", "ApiVersion"),
    ("GetDeliverabilityTestReport", "deliverability-test-report", "ApiVersion"),
    ("GetDomainDeliverabilityCampaign", "", "ApiVersion"),
    ("GetDomainStatisticsReport", "identity", "ApiVersion"),
    ("GetEmailAddressInsights", "", "ApiVersion"),
    ("GetEmailIdentity", "identity", "ApiVersion"),
    ("GetEmailIdentityPolicies", "identity", "ApiVersion"),
    ("GetEmailTemplate", "template", "ApiVersion"),
    ("GetExportJob", "export-job", "ApiVersion ExportSourceType"),
    ("GetIdentityDkimAttributes", "", "ApiVersion"),
    ("GetIdentityMailFromDomainAttributes", "", "ApiVersion"),
    ("GetIdentityNotificationAttributes", "", "ApiVersion"),
    ("GetIdentityPolicies", "", "ApiVersion"),
    ("GetIdentityVerificationAttributes", "", "ApiVersion"),
    ("GetImportJob", "import-job", "ApiVersion"),
    ("GetIngressPoint", "mailmanager-ingress-point", ""),
    ("GetMemberOfAddressList", "mailmanager-address-list", ""),
    ("GetMessageInsights", "", "ApiVersion"),
    ("GetMultiRegionEndpoint", "multi-region-endpoint", "ApiVersion"),
    ("GetRelay", "mailmanager-smtp-relay", ""),
    ("GetReputationEntity", "tenant", "ApiVersion"),
    ("GetRuleSet", "mailmanager-rule-set", ""),
    ("GetSendQuota", "", "ApiVersion"),
    ("GetSendStatistics", "", "ApiVersion"),
    ("GetSuppressedDestination", "", "ApiVersion"),
    ("GetTemplate", "", "ApiVersion"),
    ("GetTenant", "tenant", "ApiVersion"),
    ("GetTrafficPolicy", "mailmanager-traffic-policy", ""),
    ("ListAddonInstances", "", ""),
    ("ListAddonSubscriptions", "", ""),
    ("ListAddressListImportJobs", "mailmanager-address-list", ""),
    ("ListAddressLists", "", ""),
    ("ListArchiveExports", "", ""),
    ("ListArchiveSearches", "", ""),
    ("ListArchives", "", ""),
    ("ListConfigurationSets", "", "ApiVersion"),
    ("ListContactLists", "", "ApiVersion"),
    ("ListContacts", "contact-list", "ApiVersion"),
    ("ListCustomVerificationEmailTemplates", "", "ApiVersion"),
    ("ListDedicatedIpPools", "", "ApiVersion"),
    ("ListDeliverabilityTestReports", "", "ApiVersion"),
    ("ListDomainDeliverabilityCampaigns", "", "ApiVersion"),
    ("ListEmailIdentities", "", "ApiVersion"),
    ("ListEmailTemplates", "", "ApiVersion"),
    ("ListExportJobs", "", "ApiVersion ExportSourceType"),
    ("ListIdentities", "", "ApiVersion"),
    ("ListIdentityPolicies", "", "ApiVersion"),
    ("ListImportJobs", "", "ApiVersion"),
    ("ListIngressPoints", "", ""),
    ("ListMembersOfAddressList", "mailmanager-address-list", ""),
    ("ListMultiRegionEndpoints", "", "ApiVersion"),
    ("ListReceiptFilters", "", "ApiVersion"),
    ("ListReceiptRuleSets", "", "ApiVersion"),
    ("ListRecommendations", "identity", "ApiVersion"),
    ("ListRelays", "", ""),
    ("ListReputationEntities", "tenant", "ApiVersion"),
    ("ListResourceTenants", "configuration-set identity template", "ApiVersion"),
    ("ListRuleSets", "", ""),
    ("ListSuppressedDestinations", "", "ApiVersion"),
    ("ListTagsForResource", "configuration-set contact-list custom-verification-email-template dedicated-ip-pool deliverability-test-report identity template tenant", "ApiVersion"),
    ("ListTemplates", "", "ApiVersion"),
    ("ListTenantResources", "tenant", "ApiVersion"),
    ("ListTenants", "", "ApiVersion"),
    ("ListTrafficPolicies", "", ""),
    ("ListVerifiedEmailAddresses", "", "ApiVersion"),
    ("PutAccountDedicatedIpWarmupAttributes", "", "ApiVersion"),
    ("PutAccountDetails", "", "ApiVersion"),
    ("PutAccountSendingAttributes", "", "ApiVersion"),
    ("PutAccountSuppressionAttributes", "", "ApiVersion"),
    ("PutAccountVdmAttributes", "", "ApiVersion"),
    ("PutConfigurationSetArchivingOptions", "configuration-set mailmanager-archive", "ApiVersion"),
    ("PutConfigurationSetDeliveryOptions", "configuration-set dedicated-ip-pool", "ApiVersion"),
    ("PutConfigurationSetReputationOptions", "configuration-set", "ApiVersion"),
    ("PutConfigurationSetSendingOptions", "configuration-set", "ApiVersion"),
    ("PutConfigurationSetSuppressionOptions", "configuration-set", "ApiVersion"),
    ("PutConfigurationSetTrackingOptions", "configuration-set", "ApiVersion"),
    ("PutConfigurationSetVdmOptions", "configuration-set", "ApiVersion"),
    ("PutDedicatedIpInPool", "dedicated-ip-pool", "ApiVersion"),
    ("PutDedicatedIpPoolScalingAttributes", "dedicated-ip-pool", "ApiVersion"),
    ("PutDedicatedIpWarmupAttributes", "", "ApiVersion"),
    ("PutDeliverabilityDashboardOption", "", "ApiVersion"),
    ("PutEmailIdentityConfigurationSetAttributes", "identity configuration-set", "ApiVersion"),
    ("PutEmailIdentityDkimAttributes", "identity", "ApiVersion"),
    ("PutEmailIdentityDkimSigningAttributes", "identity", "ApiVersion"),
    ("PutEmailIdentityFeedbackAttributes", "identity", "ApiVersion"),
    ("PutEmailIdentityMailFromAttributes", "identity", "ApiVersion"),
    ("PutIdentityPolicy", "", "ApiVersion"),
    ("PutSuppressedDestination", "", "ApiVersion"),
    ("RegisterMemberToAddressList", "mailmanager-address-list", ""),
    ("ReorderReceiptRuleSet", "", "ApiVersion"),
    ("ReplicateEmailIdentityDkimSigningKey", "identity", "ReplicaRegion"),
    ("SendBounce", "identity", "ApiVersion FromAddress"),
    ("SendBulkEmail", "identity template configuration-set", "ApiVersion MultiRegionEndpointId TenantName"),
    ("SendBulkTemplatedEmail", "identity template configuration-set", "ApiVersion FeedbackAddress FromAddress FromDisplayName Recipients"),
    ("SendCustomVerificationEmail", "custom-verification-email-template", "ApiVersion"),
    ("SendEmail", "identity configuration-set template", "ApiVersion FeedbackAddress FromAddress FromDisplayName MultiRegionEndpointId Recipients TenantName"),
    ("SendRawEmail", "identity configuration-set", "ApiVersion FeedbackAddress FromAddress FromDisplayName Recipients"),
    ("SendTemplatedEmail", "identity template configuration-set", "ApiVersion FeedbackAddress FromAddress FromDisplayName Recipients"),
    ("SetActiveReceiptRuleSet", "", "ApiVersion"),
    ("SetIdentityDkimEnabled", "", "ApiVersion"),
    ("SetIdentityFeedbackForwardingEnabled", "", "ApiVersion"),
    ("SetIdentityHeadersInNotificationsEnabled", "", "ApiVersion"),
    ("SetIdentityMailFromDomain", "", "ApiVersion"),
    ("SetIdentityNotificationTopic", "", "ApiVersion"),
    ("SetReceiptRulePosition", "", "ApiVersion"),
    ("StartAddressListImportJob", "mailmanager-address-list", ""),
    ("StartArchiveExport", "mailmanager-archive", ""),
    ("StartArchiveSearch", "mailmanager-archive", ""),
    ("StopAddressListImportJob", "mailmanager-address-list", ""),
    ("StopArchiveExport", "mailmanager-archive", ""),
    ("StopArchiveSearch", "mailmanager-archive", ""),
    ("TagResource", "configuration-set contact-list custom-verification-email-template dedicated-ip-pool deliverability-test-report identity template tenant", "ApiVersion"),
    ("TestRenderEmailTemplate", "template", "ApiVersion"),
    ("TestRenderTemplate", "", "ApiVersion"),
    ("UntagResource", "configuration-set contact-list custom-verification-email-template dedicated-ip-pool deliverability-test-report identity template tenant", "ApiVersion"),
    ("UpdateAccountSendingEnabled", "", "ApiVersion"),
    ("UpdateArchive", "mailmanager-archive", ""),
    ("UpdateConfigurationSetEventDestination", "configuration-set", "ApiVersion"),
    ("UpdateConfigurationSetReputationMetricsEnabled", "", "ApiVersion"),
    ("UpdateConfigurationSetSendingEnabled", "", "ApiVersion"),
    ("UpdateConfigurationSetTrackingOptions", "", "ApiVersion"),
    ("UpdateContact", "contact-list", "ApiVersion"),
    ("UpdateContactList", "contact-list", "ApiVersion"),
    ("UpdateCustomVerificationEmailTemplate", "custom-verification-email-template", "ApiVersion"),
    ("UpdateEmailIdentityPolicy", "identity", "ApiVersion"),
    ("UpdateEmailTemplate", "template", "ApiVersion"),
    ("UpdateIngressPoint", "mailmanager-ingress-point", "MailManagerRuleSetArn MailManagerTrafficPolicyArn"),
    ("UpdateReceiptRule", "", "ApiVersion"),
    ("UpdateRelay", "mailmanager-smtp-relay", ""),
    ("UpdateReputationEntityCustomerManagedStatus", "tenant", "ApiVersion"),
    ("UpdateReputationEntityPolicy", "reputation-policy tenant", "ApiVersion"),
    ("UpdateRuleSet", "mailmanager-rule-set", ""),
    ("UpdateTemplate", "", "ApiVersion"),
    ("UpdateTrafficPolicy", "mailmanager-traffic-policy", ""),
    ("VerifyDomainDkim", "", "ApiVersion"),
    ("VerifyDomainIdentity", "", "ApiVersion"),
    ("VerifyEmailAddress", "", "ApiVersion"),
    ("VerifyEmailIdentity", "", "ApiVersion"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sending_is_checked_against_identity_and_configuration_set_and_knows_the_author() {
        let [raw] = actions_named("SES:sendrawemail")[..] else { panic!() };
        assert_eq!(raw.resource_types().collect::<Vec<_>>(), ["identity", "configuration-set"]);
        assert!(raw.provides("ses:FromAddress") && !raw.provides("ses:TenantName"));
        assert!(actions_named("ses:GetAccount").iter().all(Action::takes_only_star));
        assert!(actions_named("ses:Send*").len() > 5 && actions_named("ses:SendMail").is_empty());
        assert_eq!(actions_named("*").len(), ACTIONS.len());
        assert!(is_global_key("AWS:principaltag/team") && !is_global_key("aws:SourceVpcEndpoint"));
    }
}
