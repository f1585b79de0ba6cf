"""Word of a turn where a database is all that there is: queue, log and secrets, to a real receiver."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr
from standardwebhooks import Webhook

from functions.deliver import handler as module
from tests.support.hook_receiver import hook_receiver
from tests.support.kit import WHO
from tests.support.repository import REPOSITORY
from turnkeeper.adapters.sql.queue import SqlWords
from turnkeeper.bootstrap import Kit
from turnkeeper.core.errors import InvalidRequest
from turnkeeper.core.word import word_message, word_of
from turnkeeper.runtime.intake import NewSession
from turnkeeper.runtime.store.deliveries import DeliverTo
from turnkeeper.settings import Settings


@pytest.fixture
def kit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kit:
    settings = Settings(
        database_url=SecretStr(f"sqlite:///{tmp_path}/kit.db"),
        signing_key=SecretStr("k" * 40),
        webhook_networks=("127.0.0.0/8",),
        root=REPOSITORY,
    )
    kit = Kit(settings)
    monkeypatch.setattr(module, "_kit", lambda: kit)
    return kit


def work(kit: Kit) -> None:
    queue = kit.platform.words
    assert isinstance(queue, SqlWords)
    while messages := queue.receive(most=1, wait_seconds=0, visibility_seconds=60):
        for message in messages:
            records = [{"messageId": message.message_id, "body": message.body}]
            assert module.handler({"Records": records}, None) == {"batchItemFailures": []}
            queue.delete(message)


def test_word_comes_to_a_receiver_by_the_database_alone(kit: Kit) -> None:
    kit.tenants.set("acme", actor="operator", paused=True)  # which ends a turn as it begins
    with hook_receiver() as receiver:
        to = DeliverTo(webhook=receiver.url("fine"))
        head = kit.intake.create(WHO, NewSession("support", "hello", {}, deliver_to=to))
        event = word_of(None, head)
        assert event is not None and kit.words is not None
        kit.words.tell(word_message(event), group="acme")
        work(kit)
        [came] = receiver.at("fine")
    [secret] = kit.hook_secrets.of("acme")
    document = Webhook(secret).verify(came.body, dict(came.headers))
    assert document["data"]["stop"]["reason"] == "paused"
    [delivery] = kit.deliveries.of_tenant("acme")
    assert (delivery.state, delivery.id) == ("delivered", f"{event.id}_webhook")


def test_no_queue_of_replies_is_named_there(kit: Kit) -> None:
    with pytest.raises(InvalidRequest):
        kit.intake.create(WHO, NewSession("support", "hello", {}, deliver_to=DeliverTo(reply_to="results")))
