/*
 * A protected machine on two hosts, the link between them and the arbiter.
 * docs/safety.md tells what is modelled and what is not.
 *
 * Every step is atomic and any process may wait for ever between two steps:
 * there is no clock. A guest is the set of packets that it has sent, one bit
 * each, so that a fork of its history shows.
 *
 * Bounds (-D): PACKETS that guests send, PAIRS that are made, FAULTS that
 * happen, UNSEEN wins at the arbiter, ASKS of operators, STOPS, REFUSALS of a stop,
 * STARTS after it, adoptions that fail (UNADOPTED), SUPERS claims of supervisors,
 * and how often the arbiter has FORGOTTEN.
 *
 * Known-bad variants (-D), each of which must fail:
 *   BAD_SOLO     a primary goes on alone without the arbiter
 *   BAD_ACK      a standby acknowledges after it has decided to claim, until it runs
 *   BAD_EARLY    output is released before the acknowledgement
 *   BAD_UNNAMED  a takeover claim does not need the record to name the claimant
 *   BAD_RESTART  a restarted daemon passes output before it asks the arbiter
 *   BAD_ADOPT    a restarted daemon claims only if the record names a standby
 *   BAD_STUCK    a protected primary does not notice that the link is lost
 *   BAD_AGAIN    a claim that was denied is repeated
 *   BAD_STOP     a stop asks the arbiter while output still leaves
 *   BAD_REOPEN   a stop whose answer was lost lets output leave again
 *   BAD_RESUME   after a refused stop a protected machine's output passes
 *   BAD_WON      a refused stop forgets what was won before it
 *   BAD_START    a machine is started without asking who speaks for it
 *   BAD_TRIED    an adoption that failed is not tried again
 *   BAD_SUPER    a supervisor claims whatever stands
 *   BAD_KILL     a restarted daemon takes an empty arbiter for the loss of its voice
 *   BAD_FORGOT   a restarted daemon takes an empty arbiter for its leave to go on
 *   BAD_DENIED   a claim that an empty arbiter does not grant counts as denied
 *   BAD_DECIDE   an operator does not look who has spoken last
 *
 * With OUTSIDE only what leaves the hosts is checked. BAD_STUCK, BAD_AGAIN, BAD_WON,
 * BAD_TRIED, BAD_KILL and BAD_DENIED leave a host that waits or asks for ever, or
 * nobody; all others fail even then. With REACH=n a run with n takeovers fails, to show
 * that there is one, with REACHED=n one that started n machines anew.
 */

#ifndef PACKETS
#define PACKETS 3
#endif
#ifndef PAIRS
#define PAIRS 2
#endif
#ifndef FAULTS
#define FAULTS 2
#endif
#ifndef UNSEEN
#define UNSEEN 1
#endif
#ifndef ASKS
#define ASKS 1
#endif
#ifndef STOPS
#define STOPS 0
#endif
#ifndef REFUSALS
#define REFUSALS 0
#endif
#ifndef STARTS
#define STARTS 0
#endif
#ifndef UNADOPTED
#define UNADOPTED 0
#endif
#ifndef SUPERS
#define SUPERS 0
#endif
#ifndef FORGOTTEN
#define FORGOTTEN 0
#endif

/* Roles. Left: a QEMU of an earlier daemon, silent. */
#define OFF   0
#define ALONE 1
#define SEED  2
#define PROT  3
#define STBY  4
#define TAKE  5
#define LEFT  6

/* Claims. */
#define NOCLAIM  0
#define PAIR     1
#define SOLO     2
#define TAKEOVER 3
#define HANDOVER 4
#define RETURN   5
#define ADOPT    6
#define STOP     7
#define START    8

/* Messages. */
#define EPOCH    1
#define NAMED    2
#define HANDED   3
#define MLOST    4
#define ACK      5
#define TOOKOVER 6

/* What only somebody who sees both hosts and the arbiter at once can check. */
#ifdef OUTSIDE
#define inside(x) skip
#else
#define inside(x) assert(x)
#endif

#define NOBODY 2
#define OTHER(h) (1 - (h))
#define WITHIN(some, all) (((some) & ~(all)) == 0)

/* The arbiter's record, and one claim of each host on its way to it. A claim of
   a daemon that is gone, or that waits no more, may still land. */
byte gen = 1, voice = 0, sby = NOBODY;
byte way[2], wayExpect[2];
byte super[2];       /* the generation that a supervisor's claim follows, 0 if there is none */
bool blank;          /* the arbiter has forgotten all records */

/* Hosts. */
byte role[2], known[2], claim[2];
bool up[2] = true;   /* the daemon lives */
bool qemu[2], runs[2]; /* its QEMU lives, its guest is not stopped */
bool pass[2];        /* output leaves at once */
bool shut[2];        /* by a stop: nothing leaves */
byte won[2];         /* while it is to stop, and not acted upon */
bool held[2];        /* an epoch was acknowledged meanwhile */
bool tried[2];       /* an adoption has failed */
byte hist[2];        /* what the guest has sent */

/* The primary's side. */
byte cut[2];         /* the last epoch captured */
bool first[2];       /* the first one is */
bool waits[2];       /* it is not released yet */
bool lost[2];        /* the link was, while a pair claim was unanswered */
bool moving[2], last[2], handed[2];

/* The standby's side. */
byte stored[2];
bool some[2];        /* an epoch is stored */
bool named[2], decided[2], planned[2], asked[2];

/* The link. Each end notices by itself that it is cut, and until then what is
   on its way arrives. */
bool linked;
bool noticed[2] = true;
chan mail[2] = [4] of { byte, byte };

/* What is only looked at. */
byte seen;           /* packets that have left */
byte next;           /* the next packet's number */
byte speaker;        /* who runs on, since the last takeover */
byte safe;           /* the last epoch acknowledged by an undecided standby */
byte pairs, faults, unseen, asks, killed, stops, refusals, starts, unadopted, supers, forgotten;
byte ended = NOBODY; /* who has stopped the machine, for good */
byte past;           /* what machines have sent that were stopped or lost, before a start */
bool old[2];         /* the guest is of such a one */
#ifdef REACH
byte takeovers;
#endif
bool ruined;         /* it ended where nobody could take over */
bool calm;           /* no more faults, nobody asks, guests are quiet */

/* Output. What is committed may also come late, from a primary that knows
   nothing of a takeover: then the new one remembers it, or did until it was stopped. */
inline emit(h, packets, committed) {
	assert(ended == NOBODY || (committed && ended != h)); /* anybody may start it again */
	assert(!old[h] || (committed && WITHIN(packets, past)));
	assert(old[h] || WITHIN(seen, hist[h] | past) || (committed && speaker != h && WITHIN(packets, hist[speaker])));
	seen = seen | (packets)
}

#define PASSES(h) (qemu[h] && runs[h] && pass[h] && !shut[h])
inline speak(h) {
	pass[h] = !shut[h]; runs[h] = true;
	assert(!(PASSES(0) && PASSES(1)));
	if
	:: pass[h] -> emit(h, hist[h], false)
	:: else
	fi
}

inline tell(h, message, value) {
	if
	:: linked && !noticed[h] -> assert(nfull(mail[OTHER(h)])); mail[OTHER(h)]!message,value
	:: else
	fi
}

inline drain(h) {
	do
	:: nempty(mail[h]) -> mail[h]?_,_
	:: empty(mail[h]) -> break
	od
}

inline closeLink(h) {
	if
	:: !noticed[h] -> drain(h); linked = false; noticed[h] = true
	:: else
	fi
}

inline forget(h) {
	claim[h] = NOCLAIM;
	cut[h] = 0; first[h] = false; waits[h] = false; lost[h] = false;
	moving[h] = false; last[h] = false; handed[h] = false;
	stored[h] = 0; some[h] = false; named[h] = false; decided[h] = false;
	planned[h] = false; asked[h] = false; won[h] = NOCLAIM; held[h] = false; tried[h] = false
}

/* The end of a host's part: fenced, dropped, or QEMU gone. */
inline leave(h) {
	role[h] = OFF; qemu[h] = false; runs[h] = false; pass[h] = false; shut[h] = false; known[h] = 0;
	closeLink(h); forget(h)
}

inline ask(h, kind, expect) {
	claim[h] = kind; way[h] = kind; wayExpect[h] = expect
}

/* QEMU of a protected primary is gone: the standby shall take over. */
inline giveUp(h) { tell(h, MLOST, 0); leave(h) }

inline alone(h) {
	if
	:: !qemu[h] -> leave(h)
	:: else -> closeLink(h); forget(h); role[h] = ALONE; speak(h)
	fi
}

inline release(h) {
	inside(WITHIN(cut[h], safe)); /* output commit */
	emit(h, cut[h], true);
	waits[h] = false;
	if
	:: last[h] && claim[h] == NOCLAIM -> handed[h] = true; tell(h, HANDED, 0)
	:: else
	fi
}

inline paired(h) {
	role[h] = PROT; claim[h] = NOCLAIM;
	inside(gen != known[h] || sby == OTHER(h));
	if
	:: !qemu[h] -> tell(h, NAMED, known[h]); giveUp(h)
	:: qemu[h] && lost[h] -> ask(h, SOLO, known[h])
	:: else -> tell(h, NAMED, known[h]); release(h)
	fi
}

inline failed(h) {
	if
	:: planned[h] -> ask(h, RETURN, known[h])
	:: else -> leave(h)
	fi
}

/* A new guest remembers nothing. */
inline fresh(h) {
#ifdef REACHED
	assert(starts < REACHED);
#endif
	qemu[h] = true; hist[h] = 0; old[h] = false; speaker = h;
	alone(h)
}

inline carryOn(h, kind) {
	if
	:: kind == PAIR -> paired(h)
	:: kind == SOLO || kind == ADOPT -> alone(h)
	:: kind == START -> fresh(h)
	:: kind == TAKEOVER || kind == HANDOVER ->
		role[h] = TAKE; claim[h] = NOCLAIM;
		hist[h] = stored[h]; /* no epoch that comes later counts */
		if
#ifndef BAD_ACK
		:: kind == TAKEOVER -> closeLink(h)
#endif
		:: else
		fi;
		if
		:: !qemu[h] -> failed(h)
		:: else
		fi
	:: kind == RETURN || kind == STOP -> leave(h)
	fi
}

inline granted(h, kind) {
	known[h] = wayExpect[h] + 1;
	if
	:: shut[h] && kind != STOP && kind != RETURN ->
#if REFUSALS > 0
		won[h] = kind;
#endif
		ask(h, STOP, known[h]) /* and for nothing else */
	:: else -> carryOn(h, kind)
	fi
}

/* What stands may name a standby, or none: a primary that goes on claims first. */
#if REFUSALS > 0 && !defined(BAD_WON)
#define LONE(h) lost[h] = lost[h] || (shut[h] && role[h] == PROT)
#else
#define LONE(h) skip
#endif

inline denied(h, kind) {
	if
#ifdef BAD_AGAIN
	:: true -> way[h] = kind
#endif
	:: kind == ADOPT -> claim[h] = NOCLAIM /* and look again */
	:: kind == STOP && voice == h -> known[h] = gen; LONE(h); ask(h, STOP, gen)
	:: kind != ADOPT && voice == h && gen == wayExpect[h] + 1 && kind != SOLO && kind != RETURN && kind != STOP -> granted(h, kind)
	:: kind == SOLO && voice == h -> known[h] = gen; LONE(h); ask(h, (shut[h] -> STOP : SOLO), gen)
	:: kind == PAIR && voice == h && gen > wayExpect[h] + 1 -> role[h] = PROT; known[h] = gen; LONE(h); ask(h, (shut[h] -> STOP : SOLO), gen)
	:: else -> leave(h)
	fi
}

/* What the test-and-set asks for. */
#ifdef BAD_UNNAMED
#define MAYTAKE(h, kind) true
#else
#define MAYTAKE(h, kind) ((kind != TAKEOVER && kind != HANDOVER) || sby == h)
#endif

inline set(h, kind) {
	gen++;
	voice = (kind == RETURN -> OTHER(h) : (kind == STOP -> NOBODY : h));
	ended = (kind == STOP -> h : NOBODY);
	if
	:: kind == START -> past = past | seen | hist[speaker]; old[0] = true; old[1] = true
	:: else
	fi;
	sby = (kind == PAIR -> OTHER(h) : NOBODY)
}

inline decide(h, kind) {
	if
	:: !some[h] -> leave(h)
	:: else ->
		decided[h] = true;
		if
		:: named[h] -> ask(h, kind, known[h])
		:: else -> ask(h, kind, known[h] + 1) /* it can only be this one */
		fi
	fi
}

inline lostStandby(h) {
	if
	:: role[h] == SEED && claim[h] == NOCLAIM && qemu[h] -> alone(h) /* nobody was named */
	:: role[h] == SEED && claim[h] == NOCLAIM && !qemu[h] -> leave(h)
	:: role[h] == SEED && claim[h] != NOCLAIM -> lost[h] = true
	:: role[h] == PROT && !qemu[h] && claim[h] == NOCLAIM -> leave(h)
#if REFUSALS > 0
	:: role[h] == PROT && claim[h] == STOP -> lost[h] = true
#endif
#ifdef BAD_SOLO
	:: role[h] == PROT && qemu[h] && claim[h] == NOCLAIM -> alone(h)
#else
	:: role[h] == PROT && qemu[h] && claim[h] == NOCLAIM -> ask(h, SOLO, known[h])
#endif
	:: else
	fi
}

inline noticeCut(h) {
	drain(h); noticed[h] = true;
	if
	:: role[h] == STBY && !decided[h] -> decide(h, TAKEOVER)
	:: role[h] == SEED || role[h] == PROT -> lostStandby(h)
	:: else
	fi
}

/* After the decision an epoch may still be held whole, and is run from. It is
   not acknowledged. */
inline store(h, packets) {
	if
#ifdef BAD_ACK
	:: role[h] == STBY || role[h] == TAKE ->
#else
	:: role[h] == STBY && !decided[h] ->
#endif
		stored[h] = packets; some[h] = true;
		safe = (decided[h] -> safe : packets);
		tell(h, ACK, 0)
#ifndef BAD_ACK
	:: role[h] == STBY && decided[h] -> stored[h] = packets
#endif
	:: else
	fi
}

inline acked(h) {
	if
	:: role[h] == PROT && qemu[h] && waits[h] && !handed[h] && !shut[h] -> release(h)
#if REFUSALS > 0
	:: role[h] == PROT && qemu[h] && waits[h] && !handed[h] && shut[h] -> held[h] = true
#endif
	:: role[h] == SEED && qemu[h] && claim[h] == NOCLAIM -> ask(h, PAIR, known[h])
	:: else
	fi
}

inline take(h) {
	assert(!old[h] && WITHIN(seen, stored[h] | past)); /* committed means recoverable */
#ifdef REACH
	takeovers++;
	assert(takeovers < REACH);
#endif
	speaker = h;
	role[h] = ALONE; speak(h);
	tell(h, TOOKOVER, known[h]);
	closeLink(h); forget(h)
}

inline receive(h) {
	mail[h]?message,value;
	if
	:: message == EPOCH -> store(h, value)
	:: message == ACK -> acked(h)
	:: message == NAMED && role[h] == STBY && !decided[h] -> known[h] = value; named[h] = true
	:: message == MLOST && role[h] == STBY && !decided[h] -> decide(h, TAKEOVER)
	:: message == HANDED && role[h] == STBY && !decided[h] -> planned[h] = true; asked[h] = true; decide(h, HANDOVER)
	:: message == TOOKOVER && role[h] == PROT -> leave(h)
	:: else
	fi;
	message = 0; value = 0
}

inline protect(h) {
	drain(0); drain(1);
	pairs++;
	role[h] = SEED; role[OTHER(h)] = STBY;
	qemu[OTHER(h)] = true; known[OTHER(h)] = known[h]; old[OTHER(h)] = old[h];
	linked = true; noticed[0] = false; noticed[1] = false
}

inline capture(h) {
	cut[h] = hist[h]; first[h] = true; waits[h] = true; pass[h] = false;
	if
	:: moving[h] -> last[h] = true; runs[h] = false
	:: else
	fi;
#ifdef BAD_EARLY
	emit(h, cut[h], true);
#endif
	tell(h, EPOCH, cut[h])
}

/* A restarted daemon looks at the record first. */
inline recover(h) {
	if
#ifdef BAD_RESTART
	:: true -> alone(h)
#endif
#ifdef BAD_FORGOT
	:: blank -> known[h] = gen; alone(h)
#endif
#ifdef BAD_KILL
	:: blank -> leave(h)
#endif
#ifdef BAD_ADOPT
	:: !blank && voice == h && sby == NOBODY -> known[h] = gen; alone(h)
	:: !blank && voice == h && sby != NOBODY -> ask(h, ADOPT, gen)
#else
	:: !blank && voice == h -> ask(h, ADOPT, gen)
#endif
	:: !blank && voice != h -> leave(h)
	fi
}

#ifdef BAD_STUCK
#define BLIND(h) (role[h] == PROT)
#else
#define BLIND(h) false
#endif

/* Nothing follows from an arbiter without records: a restarted daemon waits. */
#if defined(BAD_KILL) || defined(BAD_FORGOT)
#define LOOKS(h) true
#elif defined(BAD_TRIED)
#define LOOKS(h) (!blank && !tried[h])
#else
#define LOOKS(h) (!blank)
#endif

#define WORKS(h) (qemu[h] && runs[h] && (role[h] == ALONE || role[h] == SEED || role[h] == PROT) && up[h])

proctype host(byte me) {
	byte message, value;
end:	do
	:: d_step { up[me] && !noticed[me] && nempty(mail[me]) -> receive(me) }
	:: d_step { up[me] && !noticed[me] && !linked && !BLIND(me) -> noticeCut(me) }
	:: d_step { up[me] && role[me] == TAKE && claim[me] == NOCLAIM && qemu[me] -> take(me) }
	:: d_step { WORKS(me) && (role[me] == SEED || role[me] == PROT) && !waits[me] && claim[me] == NOCLAIM && !last[me] &&
		(!first[me] || moving[me] || cut[me] != hist[me]) -> capture(me) }
	:: d_step { WORKS(me) && next < PACKETS && !calm ->
		hist[me] = hist[me] | (1 << next); next++;
		if
		:: pass[me] && !shut[me] -> emit(me, hist[me], false)
		:: else
		fi }
	:: atomic { up[me] && role[me] == LEFT && claim[me] == NOCLAIM && LOOKS(me) -> recover(me) }
	:: d_step { !up[me] -> up[me] = true }
	od
}

/* An arbiter without records grants and denies nothing: the claim waits, to be
   repeated. A restarted daemon looks again, and a start fails. */
inline forgetful(h, kind) {
	if
	:: claim[h] == kind && kind == ADOPT -> claim[h] = NOCLAIM
	:: claim[h] == kind && kind == START -> leave(h)
	:: else
	fi
}

/* A claim reaches the arbiter, and its answer the host, if that waits for it. */
inline land() {
	kind = way[h]; way[h] = NOCLAIM;
	if
#ifndef BAD_DENIED
	:: blank -> forgetful(h, kind)
#endif
	:: !blank && gen == wayExpect[h] && MAYTAKE(h, kind) ->
		set(h, kind);
		if
		:: claim[h] == kind -> granted(h, kind)
		:: else
		fi
	:: else ->
		if
		:: claim[h] == kind -> denied(h, kind)
		:: else
		fi
	fi;
	kind = 0; h = 0
}

/* Won, and the host is not told: it repeats the claim. */
#define WINS(h) (!blank && claim[h] != NOCLAIM && way[h] == claim[h] && gen == wayExpect[h] && MAYTAKE(h, way[h]))

#ifdef BAD_REOPEN
#define REOPEN(h) shut[h] = (claim[h] != STOP && shut[h])
#else
#define REOPEN(h) skip
#endif

/* Won, and the adoption fails all the same: it is tried anew, by a new claim. */
inline unadopt(h) {
	unadopted++; tried[h] = true;
	way[h] = NOCLAIM; claim[h] = NOCLAIM; set(h, ADOPT); known[h] = gen
}

/* A supervisor's claim, made while its daemon was dead. It is told nothing: it
   looks again. */
#ifdef BAD_SUPER
#define FOLLOWS(h) true
#else
#define FOLLOWS(h) (gen == super[h] && !blank)
#endif
inline landSuper(h) {
	if
	:: FOLLOWS(h) -> set(h, SOLO)
	:: else
	fi;
	super[h] = 0
}

#define UNADOPTS(h) (unadopted < UNADOPTED && !calm && way[h] == ADOPT && WINS(h))

proctype arbiter() {
	byte kind, h;
end:	do
	:: d_step { super[0] != 0 -> landSuper(0) }
	:: d_step { super[1] != 0 -> landSuper(1) }
	:: d_step { UNADOPTS(0) -> unadopt(0) }
	:: d_step { UNADOPTS(1) -> unadopt(1) }
	:: d_step { way[0] != NOCLAIM -> h = 0; land() }
	:: d_step { way[1] != NOCLAIM -> h = 1; land() }
	:: d_step { WINS(0) && unseen < UNSEEN && !calm -> unseen++; REOPEN(0); set(0, way[0]) }
	:: d_step { WINS(1) && unseen < UNSEEN && !calm -> unseen++; REOPEN(1); set(1, way[1]) }
	od
}

inline killQemu(h) {
	killed++;
	if
	:: role[h] == PROT && claim[h] == NOCLAIM && !handed[h] -> giveUp(h)
	:: (role[h] == PROT && (claim[h] != NOCLAIM || handed[h])) || (role[h] == SEED && claim[h] != NOCLAIM) ->
		qemu[h] = false; runs[h] = false; pass[h] = false
	:: role[h] == STBY && !decided[h] -> leave(h)
	:: role[h] == STBY && decided[h] -> qemu[h] = false; ruined = ruined || !planned[h]
	:: role[h] == TAKE && claim[h] != NOCLAIM -> qemu[h] = false
	:: role[h] == TAKE && claim[h] == NOCLAIM -> qemu[h] = false; ruined = ruined || !planned[h]; failed(h)
	:: else -> ruined = true; leave(h)
	fi
}

/* The daemon ends: what it held is gone, and its guest is silent. A standby's
   QEMU that does not run yet is of no use to a later daemon. */
inline crash(h) {
	up[h] = false;
	ruined = ruined || role[h] == TAKE || (role[h] == STBY && decided[h]);
	if
	:: qemu[h] && role[h] != STBY && role[h] != TAKE ->
		closeLink(h); forget(h); role[h] = LEFT; pass[h] = false; shut[h] = false; known[h] = 0
	:: else -> leave(h)
	fi
}

inline crashHost(h) {
	killed++; up[h] = false;
	ruined = ruined || (role[h] != PROT && (role[h] != STBY || decided[h]));
	leave(h)
}

inline failTakeover(h) { killed++; ruined = ruined || !planned[h]; failed(h) }

/* The arbiter is silent, and QEMU here is gone: another may win. The claim may
   still land. */
inline abandon(h) {
	claim[h] = NOCLAIM;
	if
	:: role[h] == PROT -> giveUp(h)
	:: else -> leave(h)
	fi
}

/* An operator stops the machine, whatever the role. The door is shut first; a claim
   that is on its way is waited for. */
inline stop(h) {
	stops++;
#ifndef BAD_STOP
	shut[h] = true;
#endif
	if
	:: role[h] == STBY && !decided[h] -> leave(h)
	:: role[h] != STBY && claim[h] == NOCLAIM -> ask(h, STOP, known[h])
	:: else
	fi
}

/* The same for what an earlier daemon left. It is silent. */
inline stopLeft(h) {
	stops++;
	if
	:: voice == h -> ask(h, STOP, gen)
	:: else -> leave(h)
	fi
}

#ifdef BAD_WON
#define RESUMES(h) true
#else
#define RESUMES(h) (won[h] == NOCLAIM)
#endif

/* What has happened to the pair meanwhile. */
inline resume(h) {
	if
	:: !qemu[h] && !handed[h] -> giveUp(h)
	:: !qemu[h] && handed[h] && lost[h] -> leave(h)
	:: qemu[h] && lost[h] -> lost[h] = false; ask(h, SOLO, known[h])
	:: qemu[h] && !lost[h] && held[h] -> held[h] = false; release(h)
	:: else
	fi
}

/* The claim to stop was certainly not made, and will not be: everything goes on from
   where it is by now. */
inline refuse(h) {
	refusals++;
	claim[h] = NOCLAIM; way[h] = NOCLAIM; shut[h] = false;
	if
#ifndef BAD_WON
	:: won[h] != NOCLAIM -> carryOn(h, won[h]); won[h] = NOCLAIM
	:: won[h] == NOCLAIM && role[h] == SEED -> ruined = ruined || !qemu[h]; alone(h) /* the first copy is given up */
#else
	:: role[h] == SEED -> ruined = ruined || !qemu[h]; alone(h)
#endif
	:: RESUMES(h) && role[h] == ALONE -> speak(h)
#ifdef BAD_RESUME
	:: RESUMES(h) && role[h] == PROT && qemu[h] -> speak(h)
#else
	:: RESUMES(h) && role[h] == PROT -> resume(h)
#endif
	:: RESUMES(h) && role[h] == TAKE && !qemu[h] -> ruined = ruined || !planned[h]; failed(h)
	:: else
	fi
}

/* A supervisor, while its daemon is dead. */
inline supervise(h) {
	supers++;
	if
	:: voice == h -> super[h] = gen
	:: else -> leave(h)
	fi
}

/* The records come back, and claims are repeated. */
inline again(h) {
	if
	:: claim[h] != NOCLAIM -> way[h] = claim[h]
	:: else
	fi
}

/* They do not: an operator lets the only guest that is left go on. */
inline decideLeft(h) {
	blank = false; super[0] = 0; super[1] = 0; way[h] = NOCLAIM;
	set(h, ADOPT); known[h] = gen;
	alone(h)
}
#ifdef BAD_DECIDE
#define LAST(h) true
#else
#define LAST(h) (speaker == h)
#endif

#ifdef BAD_START
#define FREE(h) true
#else
#define FREE(h) (voice == NOBODY || voice == h)
#endif

#define FAULT(h) (faults < FAULTS && !calm && up[h] && (role[h] != OFF || claim[h] != NOCLAIM))

/* Faults and operators, around one host. */
proctype world(byte h) {
end:	do
	:: d_step { FAULT(h) && h == 0 && linked -> faults++; linked = false }
	:: d_step { FAULT(h) && qemu[h] -> faults++; killQemu(h) }
	:: d_step { FAULT(h) -> faults++; crash(h) }
	:: d_step { FAULT(h) -> faults++; crashHost(h) }
	:: d_step { FAULT(h) && role[h] == TAKE && claim[h] == NOCLAIM -> faults++; failTakeover(h) }
	:: d_step { FAULT(h) && role[h] == STBY && asked[h] && claim[h] != NOCLAIM && linked -> faults++; closeLink(h) }
	:: d_step { !calm && !qemu[h] && ((role[h] == PROT && claim[h] == SOLO) || (role[h] == STBY && claim[h] == TAKEOVER)) -> abandon(h) }
	:: d_step { !calm && pairs < PAIRS && role[h] == ALONE && up[OTHER(h)] && role[OTHER(h)] == OFF && claim[OTHER(h)] == NOCLAIM -> protect(h) }
	:: d_step { !calm && asks < ASKS && role[h] == PROT && qemu[h] && claim[h] == NOCLAIM && !moving[h] -> asks++; moving[h] = true }
	:: d_step { !calm && asks < ASKS && role[h] == STBY && some[h] && !decided[h] -> asks++; asked[h] = true;
		ruined = ruined || (!named[h] && gen == known[h]); /* too early: it will be denied, and dropped */
		decide(h, TAKEOVER) }
	:: d_step { !calm && stops < STOPS && up[h] && role[h] != OFF && role[h] != LEFT && qemu[h] && !shut[h] -> stop(h) }
	:: d_step { !calm && stops < STOPS && STARTS > 0 && up[h] && role[h] == LEFT && claim[h] == NOCLAIM && !blank -> stopLeft(h) }
	:: d_step { !calm && refusals < REFUSALS && claim[h] == STOP && way[h] == STOP && ended != h -> refuse(h) }
	:: d_step { !calm && starts < STARTS && up[h] && role[h] == OFF && claim[h] == NOCLAIM && !blank && FREE(h) -> starts++; ask(h, START, gen) }
	:: d_step { !calm && supers < SUPERS && !up[h] && role[h] == LEFT && super[h] == 0 && !blank && (voice != h || sby != NOBODY) -> supervise(h) }
	:: d_step { !calm && forgotten < FORGOTTEN && !blank && h == 0 -> forgotten++; blank = true }
	:: d_step { blank && h == 0 -> blank = false; again(0); again(1) }
	:: d_step { blank && up[h] && role[h] == LEFT && claim[h] == NOCLAIM && LAST(h) &&
		role[OTHER(h)] == OFF && claim[OTHER(h)] == NOCLAIM && way[OTHER(h)] == NOCLAIM -> decideLeft(h) }
	:: d_step { !calm && h == 0 -> calm = true }
	od
}

#define VOICE(h) (role[h] == ALONE || role[h] == PROT)

/* A claim of an earlier daemon of the standby has landed late and has won for
   the new one, which knows nothing of it: its own claim will find that record. */
#define EARLY(h) (role[h] == PROT && voice == OTHER(h) && gen == known[h] + 1)

inline rest(h) {
	inside(up[h] && claim[h] == NOCLAIM && (role[h] == OFF || role[h] == STBY || VOICE(h)));
	inside(!VOICE(h) || (qemu[h] && runs[h] && ((voice == h && gen == known[h]) || EARLY(h))));
	inside(role[h] != ALONE || pass[h]);
	inside(role[h] != PROT || (linked && !waits[h] && role[OTHER(h)] == STBY && (sby == OTHER(h) || EARLY(h))));
	inside(role[h] != STBY || role[OTHER(h)] == PROT)
}

/* With the faults over and the arbiter answering nothing waits for ever, and
   the machine is there once, unless it was lost with both hosts. */
proctype judge() {
	timeout ->
	d_step {
		rest(0); rest(1);
		inside(!(VOICE(0) && VOICE(1)));
		inside(VOICE(0) || VOICE(1) || stops > refusals || ruined || (killed > 0 && faults > 1))
	}
}

init {
	atomic {
		role[0] = ALONE; known[0] = 1; qemu[0] = true; runs[0] = true; pass[0] = true;
		run host(0); run host(1); run arbiter(); run world(0); run world(1); run judge()
	}
}
