"""Word of a turn's end, from the table's stream to whoever hears of it; by a clock that these tests hold."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from functions.deliver import handler as module
from functions.observe import handler as observe
from tests.support.kit import POLICY, WHO, MemoryKit
from tests.unit.observe.conftest import Stream
from turnkeeper import Agent
from turnkeeper.core.errors import InvalidRequest, NotPosted, Unavailable
from turnkeeper.core.ledger import iso
from turnkeeper.core.session import Head
from turnkeeper.core.word import GIVE_UP_AFTER, Delivery
from turnkeeper.ports import Posted
from turnkeeper.runtime.intake import NewSession
from turnkeeper.runtime.jobs import Job
from turnkeeper.runtime.store import keys
from turnkeeper.runtime.store.deliveries import DeliverTo
from turnkeeper.testing.clock import ManualClock

HOOK = "https://hooks.example.com/turns"
OF_AGENT = "https://agents.example.com/turns"
STANDARD: Mapping[str, Any] = {
    **POLICY["plans"]["standard"],
    "webhook_hosts": ["hooks.example.com", "agents.example.com", "slow.example.com"],
}
TO_HOOK = DeliverTo(webhook=HOOK)
OPEN = {**POLICY, "plans": {**POLICY["plans"], "standard": STANDARD}}
NOTIFYING = Agent(name="notifying", model="claude-sonnet-5-5", system="s", webhook=OF_AGENT)


class Play:
    """A kit whose changes are shown to the observer, and whose queue of words is worked on, as Lambda would."""

    def __init__(self, kit: MemoryKit) -> None:
        self.kit = kit
        self.stream = Stream(kit)

    def turn(self, deliver_to: DeliverTo = TO_HOOK, *, agent: str = "plain", text: str = "hi") -> Head:
        new = NewSession(agent, text, {"order": 7}, deliver_to=deliver_to)
        return self.kit.run(self.kit.intake.create(WHO, new))

    def observe(self) -> None:
        assert observe.handler(self.stream.event(), None) == {"batchItemFailures": []}

    def work(self, most: int = 50) -> int:
        """Work on what is on the queue now; how many messages were done."""
        done = 0
        while done < most and (messages := self.kit.words.receive(most=1, wait_seconds=0, visibility_seconds=60)):
            for message in messages:
                record = {"messageId": message.message_id, "body": message.body}
                if module.handler({"Records": [record]}, None) == {"batchItemFailures": []}:
                    self.kit.words.delete(message)
                done += 1
        return done

    def tell(self) -> None:
        self.observe()
        self.work()

    def wait(self, **time: float) -> int:
        """Let time pass, in steps of what the queue may delay a message; how many messages were done."""
        clock, done = self.kit.clock, 0
        assert isinstance(clock, ManualClock)
        until = clock.now() + timedelta(**time)
        while (at := self.kit.words.next_visible_at()) is not None and at <= until:
            clock.advance(max((at - clock.now()).total_seconds(), 0.001))
            done += self.work()
        clock.advance(max((until - clock.now()).total_seconds(), 0.0))
        return done

    def delivery(self, head: Head, channel: str = "webhook") -> Delivery:
        found = self.kit.deliveries.of_session(head.tenant_id, head.session_id)
        return next(one for one in found if one.channel == channel)


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Play:
    kit = MemoryKit([NOTIFYING], policy=OPEN, clock=ManualClock(datetime.now(UTC)), runner="none")
    kit.words.max_receive_count = 1_000
    monkeypatch.setattr(module, "_kit", lambda: kit)
    monkeypatch.setattr(observe, "_kit", lambda: kit)
    return Play(kit)


def test_every_turn_that_comes_to_rest_is_one_event_without_contents(play: Play) -> None:
    head = play.turn(DeliverTo(), text="[[say a secret answer]]")
    play.tell()
    head = play.kit.run(play.kit.intake.post(head, "and a secret question"))
    play.tell()
    first, second = play.kit.bus.events
    assert (first["type"], first["data"]["turn"], second["data"]["turn"]) == ("turnkeeper.turn.ended", 1, 2)
    assert second["id"] == f"evt_{head.session_id.removeprefix('ses_')}_{head.last_seq}"
    data = second["data"]
    assert {name: data[name] for name in ("session_id", "tenant_id", "user_id", "agent", "status", "last_seq")} == {
        "session_id": head.session_id,
        "tenant_id": "acme",
        "user_id": "ann",
        "agent": "plain",
        "status": "idle",
        "last_seq": head.last_seq,
    }
    assert data["stop"] == {"reason": "end_turn", "detail": {}}
    assert len(data["trace_id"]) == 32
    assert float(data["cost_usd"]) > 0
    assert "secret" not in json.dumps(play.kit.bus.events)


def test_what_is_no_end_of_a_turn_is_not_told(play: Play) -> None:
    source = play.turn()
    play.tell()
    play.kit.bus.events.clear()
    play.kit.branching.fork(WHO, source)
    play.kit.branching.rewind(WHO, source)
    cancelled = play.kit.cancelling.cancel(play.kit.head(source.session_id), actor="ann")
    assert cancelled.status == "cancelled"
    play.tell()
    assert play.kit.bus.events == []


def test_a_turn_that_a_pause_ends_as_it_begins_is_told(play: Play) -> None:
    play.kit.tenants.set("acme", actor="operator", paused=True)
    play.kit.intake.create(WHO, NewSession("plain", "hi", {}))
    play.tell()
    assert [event["data"]["stop"]["reason"] for event in play.kit.bus.events] == ["paused"]


def test_a_batch_that_is_seen_twice_is_one_delivery(play: Play) -> None:
    play.turn()
    event = play.stream.event()
    for _ in range(2):
        observe.handler(event, None)
    play.work()
    assert len(play.kit.webhooks.posts) == 1
    assert len({event["id"] for event in play.kit.bus.events}) == 1


def test_the_session_s_address_stands_in_the_place_of_its_agent_s(play: Play) -> None:
    play.turn(agent="notifying")
    play.turn(DeliverTo(), agent="notifying")
    play.turn(DeliverTo())
    play.tell()
    assert [post.url for post in play.kit.webhooks.posts] == [HOOK, OF_AGENT]


# ---- signatures ----


def test_a_receiver_verifies_what_it_is_sent_by_the_standard_s_own_library(play: Play) -> None:
    play.turn()
    play.tell()
    [post] = play.kit.webhooks.posts
    [secret] = play.kit.hook_secrets.of("acme")
    document = Webhook(secret).verify(post.body, dict(post.headers))
    assert document == play.kit.bus.events[0]
    assert post.headers["webhook-id"] == document["id"]
    for wrong in (play.kit.hook_secrets.of("globex")[0], secret[:-6] + "AAAAA="):
        with pytest.raises(WebhookVerificationError):
            Webhook(wrong).verify(post.body, dict(post.headers))
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(post.body.replace(b"idle", b"fine"), dict(post.headers))


def test_while_keys_are_rotated_a_receiver_may_have_the_old_secret_or_the_new_one(play: Play) -> None:
    [old] = play.kit.hook_secrets.of("acme")
    play.kit.signing_keys.insert(0, "another key")
    play.kit.clock.advance(minutes=6)
    new, same = play.kit.hook_secrets.of("acme")
    assert (old, same == old, new != old) == (old, True, True)
    play.turn()
    play.tell()
    [post] = play.kit.webhooks.posts
    late = datetime.now(UTC) + timedelta(minutes=6)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("standardwebhooks.webhooks.datetime", _at(late))
        for secret in (old, new):
            assert Webhook(secret).verify(post.body, dict(post.headers))["type"] == "turnkeeper.turn.ended"


def _at(moment: datetime) -> type[datetime]:
    class Late(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Late:
            return cls.fromtimestamp(moment.timestamp(), tz)

    return Late


# ---- attempts ----


def test_what_fails_is_tried_again_for_a_day_at_growing_distances_and_then_given_up(play: Play) -> None:
    times: list[datetime] = []

    def answer(_url: str) -> Posted:
        times.append(play.kit.clock.now())
        return Posted(503, "no sk-ant-api03-" + "x" * 90)

    play.kit.webhooks.answer = answer
    head = play.turn()
    play.tell()
    play.wait(hours=30)
    gaps = [(later - earlier).total_seconds() for earlier, later in pairwise(times)]
    assert 9 <= len(times) <= 12
    assert 3 <= gaps[0] <= 7
    assert all(later > 1.5 * earlier for earlier, later in pairwise(gaps[:6]))
    assert max(gaps) <= 6.1 * 3600 * 1.25
    assert times[-1] - times[0] <= GIVE_UP_AFTER
    delivery = play.delivery(head)
    assert (delivery.state, delivery.attempts, delivery.last_status) == ("dead", len(times), 503)
    assert "sk-ant" not in str(delivery.last_answer)
    assert len({post.headers["webhook-id"] for post in play.kit.webhooks.posts}) == 1
    assert len({post.headers["webhook-timestamp"] for post in play.kit.webhooks.posts}) == len(times)
    assert play.kit.words.bodies() == []


@pytest.mark.parametrize(
    ("says", "least", "most"),
    [
        ("3600", 3_600, 3_661),
        ("7200.5", 7_200, 7_261),
        ("in an hour", 3_600, 3_661),  # as an HTTP date
        ("0", 3, 7),
        ("-5", 3, 7),
        ("soon", 3, 7),
        ("nan", 3, 7),
        ("86400", 900, 961),  # beyond the day: as long as receivers are left alone at most
        ("1e300", 900, 961),
        ("Fri, 31 Dec 99999999 23:59:59 GMT", 3, 7),
    ],
)
def test_a_receiver_says_when_it_wants_to_be_tried_again(play: Play, says: str, least: float, most: float) -> None:
    clock = play.kit.clock
    if says == "in an hour":
        says = format_datetime(clock.now() + timedelta(hours=1, seconds=1), usegmt=True)
    times: list[datetime] = []

    def answer(_url: str) -> Posted:
        times.append(clock.now())
        return Posted(429, "", retry_after=says) if len(times) == 1 else Posted(200, "")

    play.kit.webhooks.answer = answer
    first, other = play.turn(), play.turn()
    play.tell()
    play.wait(hours=23)
    assert least <= (times[-1] - times[0]).total_seconds() <= most
    assert {play.delivery(head).state for head in (first, other)} == {"delivered"}
    if least > 900:
        assert (times[1] - times[0]).total_seconds() >= 900, "what else is for it waits, too"


@pytest.mark.parametrize("fails", [1, 4, 7])
def test_what_is_taken_in_the_end_is_delivered_once_it_is(play: Play, fails: int) -> None:
    answers: list[Posted | NotPosted] = [NotPosted("nobody there"), Posted(500, ""), Posted(302, "elsewhere")] * 3
    play.kit.webhooks.answer = lambda _url: answers.pop(0) if len(play.kit.webhooks.posts) <= fails else Posted(200, "")
    head = play.turn()
    play.tell()
    play.wait(hours=25)
    delivery = play.delivery(head)
    assert (delivery.state, delivery.attempts, delivery.last_status) == ("delivered", fails + 1, 200)
    assert play.kit.words.bodies() == []


def test_a_receiver_that_is_gone_is_left_alone_until_somebody_replays(play: Play) -> None:
    play.kit.webhooks.answer = lambda _url: Posted(410, "moved away")
    first, second = play.turn(), play.turn()
    play.tell()
    assert len(play.kit.webhooks.posts) == 1
    assert {play.delivery(head).state for head in (first, second)} == {"dead"}
    play.kit.webhooks.answer = lambda _url: Posted(200, "")
    for head in (first, second):
        play.kit.deliverer.replay(play.delivery(head))
    play.work()
    assert [play.delivery(head).state for head in (first, second)] == ["delivered", "delivered"]
    assert {post.headers["webhook-id"] for post in play.kit.webhooks.posts} == {
        event["id"] for event in play.kit.bus.events
    }


@pytest.mark.parametrize("fails_later", [False, True])
def test_that_a_receiver_is_gone_is_not_forgotten_by_itself(play: Play, fails_later: bool) -> None:
    """Nor by an attempt that was on its way at the same time and failed otherwise."""
    play.kit.webhooks.answer = lambda _url: Posted(410, "moved away")
    play.turn()
    play.tell()
    if fails_later:
        play.kit.deliveries.note_failure("acme", HOOK, play.kit.clock.now())
    key = keys.receiver_key("acme", HOOK)
    assert {"gone_at", "expires_at_epoch"} & set(play.kit.table.get(key) or {}) == {"gone_at"}
    play.kit.deliverer.replay(next(play.kit.deliveries.of_tenant("acme")))
    assert {"gone_at", "expires_at_epoch"} & set(play.kit.table.get(key) or {}) == {"expires_at_epoch"}


def test_of_attempts_at_the_same_time_the_longest_wait_that_was_asked_for_counts(play: Play) -> None:
    deliveries, now = play.kit.deliveries, play.kit.clock.now()
    deliveries.note_failure("acme", HOOK, now, asked_seconds=600)
    for _ in range(5):
        deliveries.note_failure("acme", HOOK, now)
    assert deliveries.receiver("acme", HOOK).held_until == iso(now + timedelta(seconds=600))


def test_an_address_that_hangs_is_left_alone_for_a_while_and_holds_up_no_other(play: Play) -> None:
    slow = "https://slow.example.com/turns"
    play.kit.webhooks.answer = lambda url: NotPosted("took too long") if url == slow else Posted(200, "")
    hanging = [play.turn(DeliverTo(webhook=slow)) for _ in range(20)]
    play.tell()
    tried = len(play.kit.webhooks.posts)
    assert tried == 5
    fine = play.turn()
    play.tell()
    assert play.delivery(fine).state == "delivered"
    play.kit.webhooks.answer = lambda _url: Posted(200, "")
    play.wait(hours=1)
    assert {play.delivery(head).state for head in hanging} == {"delivered"}


def test_a_plan_that_names_a_host_no_more_ends_what_is_on_its_way_there(play: Play) -> None:
    head = play.turn()
    play.observe()
    play.kit.tenants.set("acme", actor="operator", plan="short")
    play.work()
    assert (play.delivery(head).state, play.kit.webhooks.posts) == ("dead", [])


def test_each_outcome_is_counted(play: Play, capsys: pytest.CaptureFixture[str]) -> None:
    answers = [Posted(500, ""), Posted(200, ""), Posted(410, "")]
    play.kit.webhooks.answer = lambda _url: answers.pop(0)
    play.turn()
    play.tell()
    play.wait(minutes=1)
    play.turn()
    play.tell()
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"deliveries"' in line]
    assert [(line["outcome"], line["deliveries"]) for line in lines] == [
        ("failed", [1.0]),
        ("delivered", [1.0]),
        ("dead", [1.0]),
    ]


# ---- crashes: each message is done again from where it was ----


class Crash(BaseException):
    pass


@pytest.mark.parametrize("at", range(14))
def test_whatever_write_or_send_it_dies_at_it_is_delivered_in_the_end(play: Play, at: int) -> None:
    """Dies once, before or after the step: what was posted then is posted again, by the same id."""
    kit, step = play.kit, 0

    def dying(do: Any) -> Any:
        def done(*args: Any, **kwargs: Any) -> Any:
            nonlocal step
            step += 1
            if step - 1 == at // 2 and at % 2 == 0:
                raise Crash
            mine = step - 1
            try:
                return do(*args, **kwargs)
            finally:
                if mine == at // 2:
                    raise Crash

        return done

    head = play.turn(DeliverTo(HOOK, "results", "job-1"))
    play.observe()
    with pytest.MonkeyPatch.context() as patch:
        for owner, names in ((kit.table, ("write", "update")), (kit.words, ("tell",)), (kit.bus, ("put",))):
            for name in names:
                patch.setattr(owner, name, dying(getattr(owner, name)))
        crashed = 0
        for _ in range(20):
            try:
                play.work()
            except Crash:
                crashed += 1
            kit.clock.advance(61)
    assert crashed == 1
    play.wait(hours=1)
    assert {play.delivery(head, channel).state for channel in ("webhook", "reply")} == {"delivered"}
    assert len({post.headers["webhook-id"] for post in kit.webhooks.posts}) == 1
    assert len({event["id"] for event in kit.bus.events}) == 1
    assert len({sent["id"] for sent in kit.replies.sent}) == 1


def test_a_bus_that_is_away_keeps_no_webhook_waiting(play: Play) -> None:
    play.kit.bus.away = Unavailable("out for lunch")
    play.turn()
    play.tell()
    assert (len(play.kit.webhooks.posts), len(play.kit.bus.events)) == (1, 0)
    play.kit.bus.away = None
    play.wait(minutes=5)
    assert (len(play.kit.webhooks.posts), len(play.kit.bus.events)) == (1, 1)


# ---- results of jobs ----


def test_a_job_s_result_is_sent_to_the_queue_that_it_names(play: Play) -> None:
    job = Job.model_validate(
        {
            **{"schema": "turnkeeper.job/v1", "job_id": "j-1", "tenant_id": "acme", "user_id": "ann", "agent": "plain"},
            **{"input": "[[say Zurich]]", "metadata": {"order": 7}, "reply_to": "results"},
        }
    )
    session_id = play.kit.intake.take_job(job)
    play.kit.run(play.kit.head(session_id))
    play.kit.run(play.kit.intake.post(play.kit.head(session_id), "[[say Bern]]"))
    play.tell()
    first, second = play.kit.replies.sent
    assert first["result"] == {
        "job_id": "j-1",
        "metadata": {"order": 7},
        "output": [{"type": "text", "text": "Zurich"}],
        "output_text": "Zurich",
    }
    assert second["result"]["output_text"] == "Bern"
    assert first["data"]["session_id"] == session_id


def test_who_may_hear_is_closed_until_plan_and_deployment_name_them(play: Play) -> None:
    intake = play.kit.intake
    for deliver_to in (
        DeliverTo(webhook="https://evil.example.com/turns"),
        DeliverTo(webhook="http://hooks.example.com/turns"),
        DeliverTo(reply_to="elsewhere"),
    ):
        with pytest.raises(InvalidRequest):
            intake.create(WHO, NewSession("plain", "hi", {}, deliver_to=deliver_to))
    closed = MemoryKit(clock=ManualClock(), runner="none").intake
    with pytest.raises(InvalidRequest):
        closed.create(WHO, NewSession("plain", "hi", {}, deliver_to=DeliverTo(webhook=HOOK)))


# ---- erasure, and lists ----


def test_erasure_takes_addresses_and_answers_out_of_the_log_and_ends_what_is_on_its_way(play: Play) -> None:
    play.kit.webhooks.answer = lambda _url: Posted(500, "Dear Ann")
    head = play.turn(DeliverTo(HOOK, "results", "j-1"))
    play.tell()
    play.kit.erasure.erase(play.kit.head(head.session_id), actor="ann")
    kept = json.dumps([dict(item) for item in play.kit.table.query_all(f"T#acme#S#{head.session_id}")], default=str)
    assert "hooks.example.com" not in kept
    assert "Dear Ann" not in kept
    posts = len(play.kit.webhooks.posts)
    play.wait(hours=25)
    assert len(play.kit.webhooks.posts) == posts
    assert play.delivery(head).state == "dead"


def test_an_attempt_that_is_on_its_way_while_its_session_is_erased_leaves_nothing_pending(play: Play) -> None:
    head = play.turn()

    def answer(_url: str) -> Posted:
        play.kit.erasure.erase(play.kit.head(head.session_id), actor="ann")
        return Posted(503, "Dear Ann")

    play.kit.webhooks.answer = answer
    play.tell()
    assert (play.delivery(head).state, play.delivery(head).last_answer) == ("dead", None)
    assert play.kit.words.bodies() == []


def test_an_erasure_is_no_delivery_that_failed(play: Play, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever erases a session rings no alarm by it."""
    head = play.turn()
    play.observe()
    assert play.work(most=1) == 1
    play.kit.erasure.erase(play.kit.head(head.session_id), actor="ann")
    play.work()
    assert play.kit.webhooks.posts == []
    assert '"deliveries"' not in capsys.readouterr().out


def test_nothing_is_written_for_a_session_that_was_erased_before_its_word_was_told(play: Play) -> None:
    head = play.turn()
    play.observe()
    play.kit.erasure.erase(play.kit.head(head.session_id), actor="ann")
    play.work()
    assert play.kit.deliveries.of_session("acme", head.session_id) == []
    assert play.kit.webhooks.posts == []


def test_a_running_turn_that_is_erased_is_told_on_the_bus_only(play: Play) -> None:
    head = play.kit.intake.create(WHO, NewSession("plain", "hi", {}, deliver_to=DeliverTo(webhook=HOOK)))
    play.kit.erasure.erase(head, actor="ann")
    play.tell()
    assert [event["data"]["status"] for event in play.kit.bus.events] == ["erased"]
    assert play.kit.webhooks.posts == []


def test_lists_are_of_one_tenant(play: Play) -> None:
    heads = [play.turn(), play.turn()]
    other = replace(WHO, tenant_id="globex")
    play.kit.run(play.kit.intake.create(other, NewSession("plain", "hi", {}, deliver_to=DeliverTo(webhook=HOOK))))
    play.tell()
    listed = [one.event.data.session_id for one in play.kit.deliveries.of_tenant("acme")]
    assert sorted(listed) == sorted(head.session_id for head in heads)


@pytest.mark.parametrize(
    "body", ["no JSON", "{}", '{"schema": "turnkeeper/word@9"}', '{"schema": "turnkeeper/word@1"}']
)
def test_what_tells_of_nothing_is_given_back_for_the_queue_to_set_aside(play: Play, body: str) -> None:
    assert play.kit.words.bodies() == []
    record = {"messageId": "m", "body": body}
    assert module.handler({"Records": [record]}, None) == {"batchItemFailures": [{"itemIdentifier": "m"}]}
