"""Conversations: opening and proving them, their memory, and one message at a time.

What is stored is masked. The words as they were written live only in memory, for the newest turns of the conversations
spoken to last, because a tool needs the e-mail address that a transcript must not keep. Knows no models.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from collections import OrderedDict
from typing import Any, Final

from fairlead.assistant.events import Delta, Done, Event, Sources, Started
from fairlead.assistant.identity import Session
from fairlead.errors import ConversationUnknown
from fairlead.records import Conversation, Message
from fairlead.store import Store

MAX_THREADS: Final = 2_000
"""Conversations kept in memory; the one silent longest is forgotten first, and read again when it speaks."""
MAX_REMEMBERED: Final = 16
"""Messages of a conversation kept in memory."""
MAX_REPLAYS: Final = 4
"""Answers of a conversation kept for a client that repeats a message."""
MAX_CLIENT_ID: Final = 64
SPEAKERS: Final = {"user": "user", "assistant": "assistant", "operator": "assistant"}
"""Whose words a model is given, and as whose."""


class Thread:
    """The live side of one conversation. Hold ``lock`` while answering."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.users = 0
        self.said: list[dict[str, Any]] = []
        self.session = Session()
        self.last_client_id = ""
        self.version: tuple[int, str] | None = None
        self._answers: OrderedDict[str, list[Event]] = OrderedDict()

    def remember(self, role: str, text: str) -> None:
        """Add a message as it was written."""
        self.said.append({"role": role, "content": text})
        del self.said[:-MAX_REMEMBERED]

    def keep(self, client_id: str, events: list[Event]) -> None:
        """Keep an answer for a repeated message."""
        if client_id:
            self._answers[client_id] = events
            while len(self._answers) > MAX_REPLAYS:
                self._answers.popitem(last=False)

    def replay(self, client_id: str) -> list[Event] | None:
        """The answer this client message already got."""
        return self._answers.get(client_id) if client_id else None

    def load(self, messages: list[Message]) -> None:
        """Take up what the store holds, masked: after a restart, or when others have spoken meanwhile.

        To the model a person's words are the assistant's own side of the conversation.
        """
        said = [message for message in messages if message.role in SPEAKERS and message.text][-MAX_REMEMBERED:]
        self.said.clear()
        for message in said:
            self.remember(SPEAKERS[message.role], message.text)
        client_id = ""
        for message in messages:
            if message.role == "user":
                client_id = self.last_client_id = str(message.facts.get("client_id", ""))
            elif message.role == "assistant" and client_id:
                self.keep(client_id, replayed(message))
                client_id = ""


class Threads:
    """The conversations in memory, bounded."""

    def __init__(self, limit: int = MAX_THREADS) -> None:
        self._limit = limit
        self._threads: OrderedDict[str, Thread] = OrderedDict()

    def get(self, conversation: str) -> Thread:
        """The thread of a conversation, made if it is not there. Those in use are never forgotten."""
        thread = self._threads.get(conversation)
        if thread is None:
            thread = self._threads[conversation] = Thread()
        self._threads.move_to_end(conversation)
        if len(self._threads) > self._limit:
            idle = next((key for key, each in self._threads.items() if not each.users and each is not thread), None)
            if idle is not None:
                del self._threads[idle]
        return thread

    def forget(self, conversation: str) -> None:
        """Drop what is remembered of a conversation, as when it is erased."""
        self._threads.pop(conversation, None)

    def __len__(self) -> int:
        return len(self._threads)


def replayed(message: Message) -> list[Event]:
    """The events of an answer, from what is stored of it."""
    events: list[Event] = [Started(message_id=message.id), Delta(text=message.text)]
    if message.sources:
        events.append(Sources(sources=message.sources))
    act = message.facts.get("act", "answer")
    return [*events, Done(message_id=message.id, inference_id=message.inference, act=act)]


def new_secret() -> tuple[str, str]:
    """(secret for the client, its SHA-256 for the store). 256 random bits need no slow hash."""
    secret = secrets.token_urlsafe(32)
    return secret, hash_secret(secret)


def hash_secret(secret: str) -> str:
    """SHA-256, hex."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def authorise(store: Store, conversation_id: str, secret: str) -> Conversation:
    """The conversation, if the secret opens it. Raises ConversationUnknown, alike for a wrong id and secret."""
    conversation = store.conversations.get(conversation_id)
    expected = conversation.secret_hash if conversation is not None else ""
    right = hmac.compare_digest(hash_secret(secret), expected or "-" * 64)
    if conversation is None or not right:
        raise ConversationUnknown
    return conversation
