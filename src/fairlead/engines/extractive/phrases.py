"""Every sentence the engine says of its own accord. None holds a number, a name or a fact of any shop."""

from __future__ import annotations

from typing import Final

GREETING: Final = "Hello! How can I help you?"
THANKS: Final = "You're welcome! Is there anything else I can do for you?"
GOODBYE: Final = "Goodbye, and have a nice day!"
HOW_ARE_YOU: Final = "I'm doing fine, thank you. How can I help you?"
BOT: Final = (
    "I'm an AI assistant, not a person. I answer from this shop's information, "
    "and I can pass you to a person if you like."
)
ABILITIES: Final = (
    "I can answer questions from this shop's information and look things up for you. "
    "Just ask, or tell me if you would rather talk to a person."
)
JOKE: Final = "I'm better at answers than at jokes, I'm afraid. What can I look up for you?"
PRAISE: Final = "Thank you, that's kind! Is there anything else I can do for you?"
ALL_RIGHT: Final = "All right. Is there anything else I can do for you?"
EMPTY: Final = "I did not receive any text. What can I do for you?"
OFFER: Final = "Shall I pass you to a person?"
SORRY: Final = "I'm very sorry for the trouble."
RUDE: Final = "I'm sorry that I have not been of help."
UNKNOWN: Final = "I'm sorry, I can't find an answer to that in this shop's information. " + OFFER
UNKNOWN_PART: Final = "I'm sorry, I can't find an answer to {questions} in this shop's information. " + OFFER
LIKELY: Final = "As far as I can tell: "
LIKELY_ON: Final = "As far as I can tell, "
DOUBTFUL: Final = "I'm not sure that this is what you mean: "
EITHER: Final = "I found two things that may answer this:"
DOUBTFUL_TAIL: Final = "If that does not help, I can pass you to a person."
RESERVED: Final = (LIKELY, LIKELY_ON, DOUBTFUL, EITHER)
ASSISTANT_ONLY: Final = "I can only help with questions about this shop. What would you like to know?"
HANDOFF: Final = "Of course, I'll pass you to a person."
NO_TOOL: Final = "I'm sorry, I can't do that myself. " + OFFER
NOT_ENGLISH: Final = "I'm sorry, I only understand English so far. " + OFFER
ASK: Final = "Could you please tell me {what}?"
ASK_AGAIN: Final = "I could not find {what} in your message. Could you please write it once more?"
MISSHAPEN: Final = "“{value}” cannot be {what}. "
MISSHAPEN_LIKE: Final = "“{value}” cannot be {what}: it should look like {example}. "
ASK_LAST: Final = "Without {what} I cannot do that. " + OFFER
NOTHING_FOUND: Final = (
    "I'm sorry, I found nothing for these details. Could you check them, or shall I pass you to a person?"
)
TOOL_FAILED: Final = "I'm sorry, that did not work. " + OFFER
TOOL_REFUSED: Final = "I'm sorry, I could not do that. {reason} " + OFFER
TOOL_DONE: Final = "Done."
TOOL_UNSAID: Final = "I looked, but what I got holds nothing that I can tell you. " + OFFER
