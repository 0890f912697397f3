package set

// Which tests fail when something that keeps an invariant is broken: each line was tried by hand, by
// breaking it in a working copy. The numbers are those of the invariants:
//
//	1 at most one primary serves        4 what is synced is durable everywhere
//	2 acknowledged: applied everywhere  5 who is in sync equals the primary
//	3 no read shows what can be undone  6 what the absent lack is queued
//	7 a request takes effect once, and its reply matches the state
//
//	    broken                                                       fails
//	1 3 no lease before a read is answered (store.ask)               TestLease, TestBelowQuorum
//	1   promises do not bind (obliged)                               TestLease, TestStoreAway, TestTorn …
//	1   who makes himself primary does not look again (promote)      TestPromiseBeforeSwap
//	1   a message of an older epoch is taken (enter)                 none by itself: the promise is of one epoch, too
//	1   a message of before the last fence is taken (enter)          TestLateMessages
//	2   a backup that failed is not waited for (deliver)             TestFaults
//	2 6 keys in flight are not queued for who leaves (drop)          TestFaults, TestQuorumLowered, TestLateMessages
//	6   a change does not wait for the make-up of before it (apply)  TestLateMakeUp
//	6   queues of the absent get nothing (record)                    TestExactlyOnce, TestFaults, TestUnknownSwaps …
//	2   a change is finished before all have it (finishedLocked)     TestQuorumMember, TestReadsSeeWhatIsSettled …
//	3   reads do not wait for changes (ask)                          TestReadsSeeWhatIsSettled, TestBelowQuorum
//	3   listings show attributes under way (settledOnly)             TestReadsSeeWhatIsSettled
//	4   nothing is put into the dirty list (record)                  TestPowerOfAll
//	5   what is being applied is no part of an alignment (flown)     TestAlignWaits
//	5   what is in flight is not levelled (align)                    TestQuorumMember, TestExactlyOnce
//	5   a member's own end is not levelled (align)                   TestReboots
//	5   it serves before the others are level (run)                  TestExactlyOnce, TestPowerOfAll, TestReboots …
//	5   a change that failed and yet was made is let be (change)     TestFailsThoughDone
//	5   what is open is not kept (lastName)                          TestOpenAtOneDeposed, TestUnlinkedBeforeItIsOpenedAgain
//	7   a member that is torn serves (facts)                         TestTorn
//	7   nobody looks whether a change was applied (settleOwn)        TestExactlyOnce, TestTorn, TestFaults
//	7   replies are not forgotten at a takeover (settleOwn)          TestExactlyOnce
//	7   replies are not handed over, or not written down (settle)    TestRepliesOutlive
