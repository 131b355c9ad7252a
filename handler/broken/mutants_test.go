package broken

// A mutant is the handler with one promise broken.
type mutant struct {
	name    string // what it does
	promise string // the number of what that breaks in docs/reliability.md; "retries" is how it handles failures
	file    string // from the module's root
	edits   []edit
	caught  []string // the tests of handler/workflow that must fail, each as -run takes it
}

// An edit replaces a text that occurs exactly once in the file. One that does not is an error of the table: the code has changed, and the mutant must follow.
type edit struct{ from, to string }

const (
	advance = "handler/workflow/advance.go"
	flow    = "handler/workflow/workflow.go"

	// Every crash point of one kind of life.
	crashGranted = "TestAtEveryCrashPointOfEveryLifeNothingIsLostAndNothingHappensTwice/kinds/Approved,_launch_and_wait,_1,_done$"
)

var mutants = []mutant{
	{
		name: "mark before acting: the ticket is on record before it is created", promise: "2", file: advance, caught: []string{crashGranted},
		edits: []edit{{
			"		rec, err := s.ensure(ctx, i)\n",
			"		t.SysID = strings.Repeat(\"0\", 32)\n		if err := s.save(ctx); err != nil {\n			return false, err\n		}\n		rec, err := s.ensure(ctx, i)\n",
		}},
	},
	{
		name: "mark before acting: resumed is on record before Graph is told", promise: "1", file: advance, caught: []string{crashGranted},
		edits: []edit{
			{
				"	d := Decision(c.ResumeWith)\n	call, cancel :=",
				"	d := Decision(c.ResumeWith)\n	if d == Resume {\n		if _, err := s.told(ctx, \"about to tell\"); err != nil {\n			return false, err\n		}\n	}\n	call, cancel :=",
			},
			{
				"		return s.told(ctx, \"Graph took the answer: \"+c.ResumeWith)\n",
				"		if d == Resume {\n			return true, nil\n		}\n		return s.told(ctx, \"Graph took the answer: \"+c.ResumeWith)\n",
			},
		},
	},
	{
		name: "no look-up on retry: a ticket is created without looking for the first attempt's", promise: "2", file: advance,
		caught: []string{crashGranted, "TestAnUnclearCreateIsLookedForBeforeAnotherIsSent"},
		edits: []edit{{
			"	t, id := s.c.Tickets[i], s.c.Key.TicketID(i)\n	if !s.fresh {\n",
			"	t, id := s.c.Tickets[i], s.c.Key.TicketID(i)\n	if false {\n",
		}},
	},
	{
		name: "trust the notification: a ticket that is said to be closed is taken as done", promise: "3", file: advance,
		caught: []string{"TestAForgedNotificationResumesNothing", "TestTheTicketsOwnStateCounts"},
		edits: []edit{{
			"		v, err := s.read(ctx, t)\n",
			"		v, err := ticket.Verdict{Outcome: correlation.Fulfilled, State: \"closed\"}, error(nil)\n		if s.m.Why != WhyClosed {\n			v, err = s.read(ctx, t)\n		}\n",
		}},
	},
	{
		name: "answer before storing: 202 although the callout could not be stored", promise: "1", file: flow, caught: []string{crashGranted},
		edits: []edit{{
			"	case err != nil:\n		return Receipt{}, err\n	default:\n",
			"	case err != nil:\n		return receipt, nil\n	default:\n",
		}},
	},
	{
		name: "resume again without asking Graph", promise: "2", file: advance, caught: []string{crashGranted},
		edits: []edit{{
			"		if mine, err := s.takeOver(ctx, s.answerLease(), opAsk); !mine {\n			return false, err\n		}\n		st, err := s.status(ctx)\n",
			"		if mine, err := s.takeOver(ctx, s.answerLease(), opAsk); !mine {\n			return false, err\n		}\n		st, err := waiting, error(nil)\n",
		}},
	},
	{
		name: "save whatever somebody else saved", promise: "2", file: "handler/storage/store.go", caught: []string{"TestAnIntentIsTakenOverByOneOnly"},
		edits: []edit{{
			"	etags, err := s.tables.transact(ctx, s.names.Correlations, ops)\n	switch {\n",
			"	if e, err := s.tables.get(ctx, s.names.Correlations, c.Key.Request, c.Key.Stage); err == nil {\n		ops[0].etag = e.etag\n	}\n	etags, err := s.tables.transact(ctx, s.names.Correlations, ops)\n	switch {\n",
		}},
	},
	{
		name: "ignore the lease of another worker", promise: "2", file: advance, caught: []string{"TestAnIntentUnderALeaseIsLeftToItsOwner"},
		edits: []edit{{"left := s.c.LeasedBy(s.owner, now); left > 0 {", "left := s.c.LeasedBy(s.owner, now); left < 0 {"}},
	},
	{
		name: "create again at once after an unclear create", promise: "2", file: advance, caught: []string{"TestACreateThatServiceNowFinishesLateIsWaitedFor", crashGranted},
		edits: []edit{{"		d = max(d, s.p.Settle)\n", ""}},
	},
	{
		name: "resume what was closed in a way that nobody mapped", promise: "4", file: advance,
		caught: []string{"TestEachClosedTicketEndsItsRequestAsItShould/approved,_a_state_nobody_mapped"},
		edits: []edit{
			{"	case c.Outcome == correlation.Unknown:\n", "	case c.Outcome == correlation.Unknown && !waits:\n"},
			{"	case c.Outcome == correlation.Fulfilled:\n", "	case c.Outcome != correlation.Rejected:\n"},
		},
	},
	{
		name: "take a deleted ticket as done", promise: "4", file: advance, caught: []string{"TestADeletedTicketIsHeld"},
		edits: []edit{{"return ticket.Verdict{Outcome: correlation.Unknown, State: deleted}", "return ticket.Verdict{Outcome: correlation.Fulfilled, State: deleted}"}},
	},
	{
		name: "one ticket of several done is enough", promise: "4", file: "handler/correlation/correlation.go", caught: []string{"TestOfSeveralTicketsAllHaveToBeDone"},
		edits: []edit{{"		case Fulfilled:\n		case Rejected:\n", "		case Fulfilled:\n			return Fulfilled\n		case Rejected:\n"}},
	},
	{
		name: "never ask whether the request still waits", promise: "5", file: advance,
		caught: []string{"TestTheDeadlineEndsItAndTheTicketIsTold"},
		edits:  []edit{{"	if s.m.Why == WhySweep && s.c.Waits {\n", "	if s.m.Why == WhySweep && s.c.Waits && s.c.Deadline.IsZero() {\n"}},
	},
	{
		name: "the sweep leaves stuck intents alone", promise: "5", file: advance, caught: []string{"TestTheSweepFindsWhatIsStuckAtEachStep", crashGranted},
		edits: []edit{{"	s.c.Lease(s.owner, now.Add(lease))\n", "	if s.m.Why == WhySweep {\n		return false, nil\n	}\n	s.c.Lease(s.owner, now.Add(lease))\n"}},
	},
	{
		name: "drop a poisoned message without a word", promise: "5", file: "handler/workflow/sweep.go",
		caught: []string{"TestAMessageThatFailsFiveTimesEndsAsAFailedRequestThatAPersonSees", "TestAPoisonedMessageFailsItsCorrelationForAPersonToSee"},
		edits:  []edit{{"		done, err := w.poisoned(ctx, p, s)\n", "		done, err := true, error(nil)\n"}},
	},
	{
		name: "leave what was learnt off the timeline", promise: "5", file: "handler/storage/store.go", caught: []string{crashGranted},
		edits: []edit{{"	for _, e := range c.Pending() {\n", "	for _, e := range c.Pending() {\n		if e.Kind == correlation.EventSeen {\n			continue\n		}\n"}},
	},
	{
		name: "do not bring the lists up to date", promise: "5", file: advance, caught: []string{crashGranted},
		edits: []edit{{
			"	c.Due = s.due(s.now())\n	if err := w.Store.Index(ctx, c); err != nil {\n",
			"	c.Due = s.due(s.now())\n	if err := error(nil); err != nil {\n",
		}},
	},
	{
		name: "ignore Retry-After", promise: "retries", file: "handler/fault/fault.go", caught: []string{"TestRetryAfterIsHonoured"},
		edits: []edit{{"		return e.After\n", "		return min(e.After, 0)\n"}},
	},
	{
		name: "call on through a wide outage", promise: "retries", file: "handler/workflow/gate.go", caught: []string{"TestAWideOutageBurnsNobodysAttemptsAndEndsWithoutAStampede"},
		edits: []edit{{"(g.failed < gateShuts || !g.others) && asked == 0", "g.failed > 0"}},
	},
}
