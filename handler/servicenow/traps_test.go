package servicenow

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// traps are what ServiceNow does that a client has to know, and the test that fails when this one forgets.
var traps = []struct{ trap, test string }{
	{"anything but 201 is not created: an overloaded instance answers 202 and drops the call", "TestCreateIsUnclearUnlessTheOutcomeIsCertain"},
	{"and does so with a session cookie: none is kept", "TestNoCookieIsKept"},
	{"without Accept and Content-Type the answer is 400", "TestTheHeadersThatServiceNowWantsAreSent"},
	{"a reference is a string, or an object of two shapes", "TestReadTakesAFieldAsAStringOrAnObject"},
	{"version 1 answers 404 where version 2 answers an empty list", "TestFindReturnsNoneWhenThereIsNone"},
	{"a condition on a column that does not exist is ignored, and every record matches", "TestFindTakesAnIgnoredConditionNeitherForAMatchNorForNone"},
	{"also in the look-up of a user", "TestFindUserTakesNobodyWhoWasNotAskedFor"},
	{"and of what was ordered", "TestNothingIsAdoptedThatIsNotOurs"},
	{"a ^ in a value adds a condition", "TestFindPutsNothingButAnIDIntoTheQuery"},
	{"also in a user's name", "TestFindUserPutsNoConditionIntoTheQuery"},
	{"also in a group's", "TestFindGroupTakesTheOneActiveGroupOfTheName"},
	{"also in an item's", "TestAnItemThatCannotBeOrderedOrFoundAgainIsNotOrdered"},
	{"records that may not be read are counted and left out of a list", "TestFindSaysThatItsRecordsAreHidden"},
	{"403 is a missing right, a business rule or a data policy", "TestARuleOfTheInstanceRefusesAndARightForbids"},
	{"404 is a deleted record or a missing right", "TestWhatMayNotBeSeenAndWhatWasDeletedIsNotFound"},
	{"a rate rule says when to come back, in seconds, as a date, or as a reset", "TestRetryAfterIsHonoured"},
	{"it may be in an hour", "TestAnInstanceThatThrottlesForAnHourIsLeftAloneForAsLongAsItSays"},
	{"exhausted semaphores say nothing", "TestARateRuleSlowsUsDownAndBreaksNothing"},
	{"a call that took a minute is cut off with an error behind a 200", "TestCreateIsUnclearUnlessTheOutcomeIsCertain"},
	{"correlation_id is cut at the column's length, or dropped", "TestCreateNamesATicketThatCannotBeFoundAgain"},
	{"a record may be created and not shown", "TestCreateNamesATicketThatCannotBeFoundAgain"},
	{"a work note is a field, and not repeated when its answer is lost", "TestANoteWhoseAnswerIsLostIsUnclearAndNotSentAgain"},
	{"there is no idempotency key: a create is sent once", "TestCreateIsUnclearUnlessTheOutcomeIsCertain"},
	{"an instance that sleeps, or is upgraded, answers with a page", "TestAnInstanceThatIsAsleepOrUnderMaintenanceIsUnreachable"},
	{"a redirect would send a create elsewhere, or as a GET", "TestARedirectIsNotFollowed"},
	{"a requested item is ordered, and not inserted", "TestEachKindOfTicketIsCreatedFoundReadNotedAndCancelledOverTheWire"},
	{"an order is answered with the request and not the item", "TestAnOrderIsTheRequestedItemWithItsCorrelationIDFieldsAndVariables"},
	{"a request may have several items", "TestOfSeveralItemsOfARequestTheOneThatWasOrderedIsTaken"},
	{"between the order and the item's correlation_id a process may die", "TestACrashAtAnyPointOfAnOrderLeavesOneOrderThatIsFound"},
	{"the catalog answers 404 Invalid Request to whatever goes wrong within an order, and 400 without saying which variable it wants", "TestAnOrderThatIsTurnedDownSaysWhy"},
	{"the variables of a set are not listed with the item", "TestAVariableOfASetIsFound"},
	{"whom the ticket is for may not be a user", "TestAnOrderIsForTheIntegrationUserWhenNobodyElseIsFound"},
	{"a token lives for half an hour, and there is none to refresh it", "TestATokenServesUntilShortlyBeforeItsEndAndIsRenewedBesideTheCalls"},
	{"and may be revoked before", "TestARevokedTokenIsReplacedOnceForAllCallsAndNoneIsLost"},
	{"the client credentials grant wants a property", "TestTheInstanceSaysWhyItGivesNoToken"},
	{"each way to log in acts as its user", "TestEachWayOfAuthenticationActsAsItsUser"},
	{"a managed identity needs no secret", "TestAManagedIdentityIsLetInOverTheWireWithoutAnySecret"},
	{"a client certificate goes beside a password or a key", "TestAClientCertificateIsSentBesideAPasswordAndAKey"},
	{"and not beside client credentials", "TestACertificateThatCannotBeUsedStopsTheStart"},
	{"with TLS 1.3 it is refused when the call is out already", "TestWithoutACertificateThatIsTrustedNothingIsCreated"},
	{"the instance is behind a proxy", "TestTheProxyOfTheEnvironmentIsUsed"},
	{"or behind a gateway, with a base path", "TestOverTheWireBelowABasePath"},
	{"which wants headers of its own", "TestExtraHeadersGoWithEveryCallAndAreNeverShown"},
}

func TestEveryTrapHasItsTest(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]bool{}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && strings.HasPrefix(f.Name.Name, "Test") {
				tests[f.Name.Name] = true
			}
		}
	}
	for _, tr := range traps {
		if !tests[tr.test] {
			t.Errorf("%s: there is no %s", tr.trap, tr.test)
		}
	}
}
