package entra

import "ticketbridge/handler/simulator/entra/csdl"

// graphSchema declares what of Graph v1.0 the stand-in knows. Like the real service it refuses whatever is not declared: a property,
// an enumeration member, a path, a name in $select. It is a part of the published schema, which a test holds it to.
func graphSchema() *csdl.Model {
	m := csdl.New("microsoft.graph")
	enum := func(name string, members ...string) {
		m.Add(csdl.Type{Name: name, Kind: csdl.Enum, Members: members})
	}
	declare := func(kind csdl.Kind, abstract bool, name, base, properties, navigations string) {
		t := csdl.Type{Name: name, Kind: kind, Base: base, Abstract: abstract}
		if properties != "" {
			t.Properties = csdl.Properties(properties)
		}
		if navigations != "" {
			t.Navigations = csdl.Properties(navigations)
		}
		m.Add(t)
	}
	complexType := func(name, base, properties string) { declare(csdl.Complex, false, name, base, properties, "") }
	abstract := func(name, properties string) { declare(csdl.Complex, true, name, "", properties, "") }
	entityType := func(name, base, properties, navigations string) {
		declare(csdl.Entity, false, name, base, properties, navigations)
	}

	enum("accessPackageAssignmentState", "delivering", "partiallyDelivered", "delivered", "expired", "deliveryFailed")
	enum("accessPackageCatalogState", "unpublished", "published")
	enum("accessPackageCatalogType", "userManaged", "serviceDefault", "serviceManaged")
	enum("accessPackageCustomExtensionStage", "assignmentRequestCreated", "assignmentRequestApproved", "assignmentRequestGranted",
		"assignmentRequestRemoved", "assignmentFourteenDaysBeforeExpiration", "assignmentOneDayBeforeExpiration")
	enum("accessPackageRequestState", "submitted", "pendingApproval", "delivering", "delivered", "deliveryFailed", "denied",
		"scheduled", "canceled", "partiallyDelivered")
	enum("accessPackageRequestType", "notSpecified", "userAdd", "userUpdate", "userRemove", "adminAdd", "adminUpdate", "adminRemove",
		"systemAdd", "systemUpdate", "systemRemove", "onBehalfAdd", "approverRemove")
	enum("accessPackageSubjectLifecycle", "notDefined", "notGoverned", "governed")
	enum("accessPackageSubjectType", "notSpecified", "user", "servicePrincipal")
	enum("accessReviewExpirationBehavior", "keepAccess", "removeAccess", "acceptAccessRecommendation")
	enum("allowedTargetScope", "notSpecified", "specificDirectoryUsers", "specificConnectedOrganizationUsers",
		"specificDirectoryServicePrincipals", "allMemberUsers", "allDirectoryUsers", "allDirectoryServicePrincipals",
		"allConfiguredConnectedOrganizationUsers", "allExternalUsers")
	enum("approverInformationVisibility", "default", "notVisible", "visible")
	enum("customExtensionCalloutInstanceStatus", StatusSent, StatusReceived, StatusFailed, StatusTimedOut, StatusWaiting)
	enum("expirationPatternType", "notSpecified", "noExpiration", "afterDateTime", "afterDuration")

	abstract("customExtensionData", "")
	complexType("accessPackageAssignmentRequestCallbackData", "customExtensionData",
		"customExtensionStageInstanceDetail String, customExtensionStageInstanceId String, stage accessPackageCustomExtensionStage, state String")
	abstract("customExtensionEndpointConfiguration", "")
	complexType("httpRequestEndpoint", "customExtensionEndpointConfiguration", "targetUrl String")
	complexType("logicAppTriggerEndpointConfiguration", "customExtensionEndpointConfiguration",
		"logicAppWorkflowName String, resourceGroupName String, subscriptionId String, url String")
	abstract("customExtensionAuthenticationConfiguration", "")
	complexType("azureAdPopTokenAuthentication", "customExtensionAuthenticationConfiguration", "")
	complexType("azureAdTokenAuthentication", "customExtensionAuthenticationConfiguration", "resourceId String")
	abstract("customExtensionCallbackConfiguration", "timeoutDuration Duration")
	complexType("accessPackageRequestApprovalStageCallbackConfiguration", "customExtensionCallbackConfiguration", "")
	// Microsoft's pages show this type, abstract in the schema, as the type of a callback configuration.
	m.AllowAbstract("customExtensionCallbackConfiguration")
	complexType("customExtensionClientConfiguration", "", "maximumRetries Int32, timeoutInMilliseconds Int32")
	complexType("customExtensionCalloutInstance", "",
		"customExtensionId String, detail String, externalCorrelationId String, id String, status customExtensionCalloutInstanceStatus")

	abstract("subjectSet", "")
	complexType("singleUser", "subjectSet", "description String, userId String")
	complexType("groupMembers", "subjectSet", "description String, groupId String")
	complexType("requestorManager", "subjectSet", "managerLevel Int32")
	complexType("targetManager", "subjectSet", "managerLevel Int32")
	complexType("internalSponsors", "subjectSet", "")
	complexType("externalSponsors", "subjectSet", "")
	complexType("attributeRuleMembers", "subjectSet", "description String, membershipRule String")
	complexType("connectedOrganizationMembers", "subjectSet", "connectedOrganizationId String, description String")
	complexType("expirationPattern", "", "duration Duration, endDateTime DateTimeOffset, type expirationPatternType")
	complexType("entitlementManagementSchedule", "", "expiration expirationPattern, startDateTime DateTimeOffset, recurrence patternedRecurrence")
	complexType("accessPackageAssignmentRequestorSettings", "", "allowCustomAssignmentSchedule Boolean, "+
		"enableOnBehalfRequestorsToAddAccess Boolean, enableOnBehalfRequestorsToRemoveAccess Boolean, "+
		"enableOnBehalfRequestorsToUpdateAccess Boolean, enableTargetsToSelfAddAccess Boolean, "+
		"enableTargetsToSelfRemoveAccess Boolean, enableTargetsToSelfUpdateAccess Boolean, onBehalfRequestors []subjectSet")
	complexType("accessPackageApprovalStage", "", "approverInformationVisibility approverInformationVisibility!, "+
		"durationBeforeAutomaticDenial Duration, durationBeforeEscalation Duration, escalationApprovers []subjectSet, "+
		"fallbackEscalationApprovers []subjectSet, fallbackPrimaryApprovers []subjectSet, isApproverJustificationRequired Boolean, "+
		"isEscalationEnabled Boolean, primaryApprovers []subjectSet")
	complexType("accessPackageAssignmentApprovalSettings", "", "isApprovalRequiredForAdd Boolean, isApprovalRequiredForUpdate Boolean, "+
		"isRequestorJustificationRequired Boolean, stages []accessPackageApprovalStage")
	complexType("accessPackageAssignmentReviewSettings", "", "expirationBehavior accessReviewExpirationBehavior, "+
		"fallbackReviewers []subjectSet, isEnabled Boolean, isRecommendationEnabled Boolean, isReviewerJustificationRequired Boolean, "+
		"isSelfReview Boolean, primaryReviewers []subjectSet, schedule entitlementManagementSchedule")
	complexType("accessPackageAutomaticRequestSettings", "", "gracePeriodBeforeAccessRemoval Duration, "+
		"removeAccessWhenTargetLeavesAllowedTargets Boolean, requestAccessForAllowedTargets Boolean")
	complexType("accessPackageNotificationSettings", "", "isAssignmentNotificationDisabled Boolean!")
	complexType("accessPackageLocalizedText", "", "languageCode String!, text String")
	declare(csdl.Complex, true, "accessPackageAnswer", "", "displayValue String", "answeredQuestion accessPackageQuestion")
	complexType("accessPackageAnswerString", "accessPackageAnswer", "value String")

	declare(csdl.Entity, true, "entity", "", "id String!", "")
	declare(csdl.Entity, true, "customCalloutExtension", "entity", "authenticationConfiguration customExtensionAuthenticationConfiguration, "+
		"clientConfiguration customExtensionClientConfiguration, description String, displayName String, "+
		"endpointConfiguration customExtensionEndpointConfiguration", "")
	const workflow = "callbackConfiguration customExtensionCallbackConfiguration, createdBy String, createdDateTime DateTimeOffset, " +
		"lastModifiedBy String, lastModifiedDateTime DateTimeOffset"
	entityType("accessPackageAssignmentRequestWorkflowExtension", "customCalloutExtension", workflow, "")
	entityType("accessPackageAssignmentWorkflowExtension", "customCalloutExtension", workflow, "")
	entityType("customExtensionStageSetting", "entity", "stage accessPackageCustomExtensionStage!", "customExtension customCalloutExtension")
	entityType("accessPackageCatalog", "entity", "catalogType accessPackageCatalogType, createdDateTime DateTimeOffset, description String, "+
		"displayName String, isExternallyVisible Boolean, modifiedDateTime DateTimeOffset, state accessPackageCatalogState",
		"accessPackages []accessPackage, customWorkflowExtensions []customCalloutExtension")
	entityType("accessPackage", "entity", "createdDateTime DateTimeOffset, description String, displayName String, isHidden Boolean, "+
		"modifiedDateTime DateTimeOffset", "assignmentPolicies []accessPackageAssignmentPolicy, catalog accessPackageCatalog")
	declare(csdl.Entity, true, "accessPackageQuestion", "entity", "isAnswerEditable Boolean, isRequired Boolean, "+
		"localizations []accessPackageLocalizedText, sequence Int32, text String", "")
	entityType("accessPackageTextInputQuestion", "accessPackageQuestion", "isSingleLineQuestion Boolean, regexPattern String", "")
	entityType("accessPackageAssignmentPolicy", "entity", "allowedTargetScope allowedTargetScope, "+
		"automaticRequestSettings accessPackageAutomaticRequestSettings, createdDateTime DateTimeOffset, description String, "+
		"displayName String, expiration expirationPattern, modifiedDateTime DateTimeOffset, "+
		"notificationSettings accessPackageNotificationSettings, requestApprovalSettings accessPackageAssignmentApprovalSettings, "+
		"requestorSettings accessPackageAssignmentRequestorSettings, reviewSettings accessPackageAssignmentReviewSettings, "+
		"specificAllowedTargets []subjectSet",
		"accessPackage accessPackage, catalog accessPackageCatalog, customExtensionStageSettings []customExtensionStageSetting, "+
			"questions []accessPackageQuestion")
	entityType("accessPackageSubject", "entity", "displayName String, email String, objectId String, onPremisesSecurityIdentifier String, "+
		"principalName String, subjectLifecycle accessPackageSubjectLifecycle!, subjectType accessPackageSubjectType",
		"connectedOrganization connectedOrganization")
	entityType("accessPackageAssignment", "entity", "customExtensionCalloutInstances []customExtensionCalloutInstance, "+
		"expiredDateTime DateTimeOffset, schedule entitlementManagementSchedule, state accessPackageAssignmentState, status String",
		"accessPackage accessPackage, assignmentPolicy accessPackageAssignmentPolicy, target accessPackageSubject")
	entityType("accessPackageAssignmentRequest", "entity", "answers []accessPackageAnswer, completedDateTime DateTimeOffset, "+
		"createdDateTime DateTimeOffset, customExtensionCalloutInstances []customExtensionCalloutInstance, justification String, "+
		"requestType accessPackageRequestType, schedule entitlementManagementSchedule, state accessPackageRequestState, status String",
		"accessPackage accessPackage, assignment accessPackageAssignment, requestor accessPackageSubject")
	entityType("entitlementManagement", "entity", "", "accessPackages []accessPackage, "+
		"assignmentPolicies []accessPackageAssignmentPolicy, assignmentRequests []accessPackageAssignmentRequest, "+
		"assignments []accessPackageAssignment, catalogs []accessPackageCatalog")
	entityType("identityGovernance", "", "", "entitlementManagement entitlementManagement")

	complexType("unifiedRolePermission", "", "allowedResourceActions []String!, condition String, excludedResourceActions []String")
	entityType("unifiedRoleDefinition", "entity", "description String, displayName String, isBuiltIn Boolean, isEnabled Boolean, "+
		"resourceScopes []String!, rolePermissions []unifiedRolePermission!, templateId String, version String", "")
	entityType("unifiedRoleAssignment", "entity", "appScopeId String, condition String, directoryScopeId String, principalId String, "+
		"principalOrganizationId String, roleDefinitionId String", "roleDefinition unifiedRoleDefinition")
	entityType("rbacApplication", "entity", "",
		"roleAssignments []unifiedRoleAssignment, roleDefinitions []unifiedRoleDefinition")
	entityType("roleManagement", "", "", "entitlementManagement rbacApplication")

	declare(csdl.Entity, false, "directoryObject", "entity", "deletedDateTime DateTimeOffset", "")
	complexType("verifiedDomain", "", "capabilities String, isDefault Boolean, isInitial Boolean, name String, type String")
	entityType("organization", "directoryObject", "displayName String, tenantType String, verifiedDomains []verifiedDomain!", "")
	entityType("user", "directoryObject", "accountEnabled Boolean, displayName String, mail String, userPrincipalName String, userType String", "")
	complexType("appRole", "", "allowedMemberTypes []String!, description String, displayName String, id Guid!, isEnabled Boolean!, origin String, value String")
	complexType("apiApplication", "", "acceptMappedClaims Boolean, knownClientApplications []Guid, oauth2PermissionScopes []permissionScope!, "+
		"preAuthorizedApplications []preAuthorizedApplication, requestedAccessTokenVersion Int32")
	entityType("appRoleAssignment", "directoryObject", "appRoleId Guid!, createdDateTime DateTimeOffset, principalDisplayName String, principalId Guid, "+
		"principalType String, resourceDisplayName String, resourceId Guid", "")
	// The navigation is documented at Microsoft's, and is not in the cut-down schema that tests hold this one to.
	entityType("servicePrincipal", "directoryObject", "accountEnabled Boolean, alternativeNames []String!, appId String, appRoleAssignmentRequired Boolean!, "+
		"appRoles []appRole!, displayName String, servicePrincipalNames []String!, servicePrincipalType String, tags []String!",
		"appRoleAssignedTo []appRoleAssignment")
	entityType("application", "directoryObject", "api apiApplication, appId String, appRoles []appRole!, description String, displayName String, "+
		"identifierUris []String!, notes String, requiredResourceAccess []requiredResourceAccess!, signInAudience String, tags []String!, uniqueName String", "")

	root := func(name, typ string, many bool) {
		m.AddRoot(csdl.Property{Name: name, Ref: csdl.Ref{Type: typ, Collection: many}})
	}
	root("identityGovernance", "identityGovernance", false)
	root("roleManagement", "roleManagement", false)
	root("organization", "organization", true)
	root("users", "user", true)
	root("servicePrincipals", "servicePrincipal", true)
	root("applications", "application", true)

	request := csdl.Ref{Type: "accessPackageAssignmentRequest"}
	text := csdl.Ref{Type: "Edm.String"}
	m.AddOperation(csdl.Operation{Name: "resume", Action: true, Binding: request, Parameters: []csdl.Property{
		{Name: "source", Ref: text}, {Name: "type", Ref: text}, {Name: "data", Ref: csdl.Ref{Type: "customExtensionData"}},
	}})
	m.AddOperation(csdl.Operation{Name: "cancel", Action: true, Binding: request})
	return m
}
