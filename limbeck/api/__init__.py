"""What teachers and judges share: the answers' types, the client of an OpenAI-compatible server, the reply store.

Reading order: `answers` (what can come back), `client` (one server, with retries; its `address`, `flow` and `wire`),
`reply_store` (what was paid for), `prices` and `budget` (what may be spent), `workers`, `asking` (many calls at once,
through the store); `batches` does the same through a provider's batch API, with `batch_client`, `batch_wire`,
`batch_book` (which are under way) and `batch_results` beside it. Knows nothing of pairs, prompts or rewards.
"""

from limbeck.api.answers import Answer, Answered, Failed, FailureReason
from limbeck.api.asking import Call, ask_all
from limbeck.api.client import ChatClient, ChatRequest
from limbeck.api.reply_store import ReplyStore, reply_key

__all__ = [
    "Answer",
    "Answered",
    "Call",
    "ChatClient",
    "ChatRequest",
    "Failed",
    "FailureReason",
    "ReplyStore",
    "ask_all",
    "reply_key",
]
