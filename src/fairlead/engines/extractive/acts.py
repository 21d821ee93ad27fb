"""What a message does besides asking: greet, thank, leave, chat, complain, wish for a person, agree to an offer.

Knows no documents and no tools.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from fairlead.engines.embed.words import fold, words_of
from fairlead.engines.extractive import phrases

Act = Literal["answer", "unknown", "small_talk", "ask", "tool", "handoff", "complaint"]


class Reaction(NamedTuple):
    """A complete answer to a message that asks nothing of the shop."""

    act: Act
    text: str


_GREET = re.compile(
    r"^(?:hi|hiya|hello|hey|heya|hallo|howdy|yo|good (?:morning|afternoon|evening|day)|greetings|dear (?:team|sir"
    r"|madam|support|all))(?: (?:there|all|everyone|team|guys|again|sir|madam|bot|or madam|you|to you))*"
    r"(?:,? (?:(?:is )?any(?:one|body) (?:there|here|at home))\b\??)?[\s,.!:;?-]*"
)
_THANKS = re.compile(
    r"\b(?:thanks?(?: you| u)?|thx|ty|cheers|many thanks|much appreciated|appreciate it|great help"
    r"|helped (?:me )?a lot|perfect|that helps|that helped)\b"
)
_BYE = re.compile(
    r"\b(?:bye|goodbye|see you|see ya|have a (?:nice|good|great) (?:day|evening|weekend|one)|that(?:'s| is|s) all"
    r"|good night|take care)\b"
)
_HOW_ARE_YOU = re.compile(
    r"\bhow (?:do|are) you (?:feel|feeling|doing)\b|\bhow are (?:you|u)\b|\bhow(?:'s| is) it going"
    r"|\bhow do you do\b|\bwhat'?s up\b"
)
_BOT = re.compile(
    r"\b(?:are|r) (?:you|u) (?:a |an |really |actually |even |just )*(?:bot|robot|chatbot|human|real|person|machine"
    r"|ai|computer|alive|program|man|woman|artificial|chatgpt|people)\b"
    r"|\b(?:am i|is this|are we) (?:talking|speaking|chatting|writing)? ?(?:to |with )?(?:a |an )(?:bot|robot|human"
    r"|real|person|machine|ai|chatbot|computer)"
    r"|\bis (?:that|this|it) (?:really )?(?:a |an )(?:bot|robot|human|real person|person|machine|chatbot|computer)\b"
    r"|^(?:and |so |hi |hello )*who are (?:you|u)\b[\s?!.]*$"
    r"|\bwho (?:am i (?:talking|speaking|chatting) (?:to|with))|\byou(?:'re| are) (?:a |just a )?(?:bot|robot"
    r"|machine|ai)\b|\bwhat(?:'s| is) your name\b|\bdo you have (?:a name|feelings)"
)
_ABLE = re.compile(
    r"^(?:so )?(?:what (?:can|could|do) you (?:do|help)(?: .{0,30})?|what are you (?:able to do|for|good at)"
    r"|how can you help(?: me)?|(?:can"
    r"|could) you help(?: me)?(?: please)?|(?:i need|need|i could use) (?:some |your |a bit of )?help(?: please)?"
    r"|help(?: me)?(?: please)?|i have a (?:question|problem)|menu|options)[\s.!?]*$"
)
_JOKE = re.compile(
    r"\b(?:tell|know|say) (?:me )?(?:a |any |another |something )(?:joke|jokes|funny)\b|\bmake me laugh\b"
)
_PRAISE = re.compile(
    r"^(?:you(?:'re| are| r)? (?:so |very |really |the )?(?:great|best|awesome|good|helpful|nice|amazing|smart)"
    r"|(?:good|great|nice) (?:bot|job|work)|i (?:love|like) (?:you|this)|well done|brilliant|awesome)\b.{0,20}$"
)
_PERSON = re.compile(
    r"\b(?:talk|speak|chat|connect|connected|put me|transfer|transferred|pass me|get me|give me|switch|write"
    r"|escalate|forward me|hand me|need|want|prefer|contact)\b.{0,40}?"
    r"\b(?:a |an |the |your |some |to |another )*(?:(?:real|actual|live|human) (?:person|human|agent|being|people"
    r"|someone|operator|representative|advisor|adviser|assistant|help)|person|human|agent|representative|rep"
    r"|operator|manager|supervisor|colleague|advisor|adviser|member of staff|staff member|employee|real someone"
    r"|somebody real|someone real|your boss)\b"
    r"|\b(?:talk|speak|chat) (?:to|with) (?:someone|somebody|anyone|customer (?:service|support)|support|your team"
    r"|the team|people|staff|sales)\b"
    r"|^(?:a |an |the )?(?:human|person|agent|representative|operator|real person|live agent|live chat|human agent"
    r"|real human|manager|customer service)(?: please| now| pls)?[\s.!]*$"
    r"|\bhuman (?:please|being)|\bis there (?:a |an |any )?(?:real |actual |live )?(?:human|person|agent|somebody"
    r"|someone)\b.{0,25}(?:talk|speak|chat|help|there)"
)
_NO_PERSON = re.compile(
    r"^(?:(?:hi|hello|hey|and|so|but)[ ,]+)*(?:when|what (?:time|hours|days)|how (?:long|late|much)|until when)\b"
    r"|\b(?:don'?t|do not|no need to|not) (?:want to |need to |want |need )?(?:talk|speak|chat|a person|a human)\b"
    r"|\bwork(?:s)? with a person\b|\bin person\b|\bper person\b"
)
_ANGRY = re.compile(
    r"\b(?:fed up|terrible|horrible|awful|worst|unacceptable|disgusting|ridiculous|angry|furious|scam|scammers"
    r"|useless|disappointed|disappointing|never (?:again|buy|order)|a joke|rude|disgrace|disgraceful|outrageous"
    r"|appalling|pathetic|nonsense|frustrated|frustrating|annoyed|annoying|upset|rip ?off|fraud|liars?|sick of"
    r"|not good enough|complain|complaint|had enough|waste of (?:time|money)|cheated|shame on|lawyer|sue you"
    r"|incompetent|rubbish|garbage|crap)\b"
)
_RUDE = re.compile(
    r"\b(?:fuck\w*|shit\w*|idiots?|stupid|moron\w*|bastard\w*|bitch\w*|asshole\w*|arsehole\w*|dumb\w*|shut up"
    r"|bloody (?:bot|useless|hell)|wtf|damn you|screw you|piss off|suck|sucks)\b"
)
_HOW_COMPLAIN = re.compile(r"\b(?:how|where|who) .{0,25}\bcomplain")
_YES = re.compile(
    r"^(?:yes|yeah|yep|yup|ja|oui|sure|ok|okay|please do|yes please|please|do it|go ahead|of course|definitely"
    r"|absolutely|why not|alright|fine|y)\b(?:[\s,.!]*(?:please|do|thanks|thank you|do that|go ahead|pass me|i would"
    r"|that would be (?:nice|great|good)))*[\s.!]*$"
)
_OK_THANKS = re.compile(r"^(?:ok|okay|alright|fine)[\s,.!]+(?:thanks|thank you)[\s.!]*$")
_NO = re.compile(
    r"^(?:no|nope|nah|nein|non|not (?:now|yet|really)|never ?mind|no need|no thanks?|n|don'?t)\b(?:[\s,.!]*(?:thanks"
    r"|thank you|need|i'm good|it's (?:fine|ok|okay)|that's (?:all|fine|it)|that will be all))*[\s.!]*$"
)
_OK = re.compile(
    r"^(?:ok|okay|k|kk|alright|all right|fine|great|good|cool|nice|perfect|got it|i see|understood|super|awesome"
    r"|wonderful|excellent|sounds good|yes|yeah|sure|no|nope|hm+|oh|ah|wow|lol|haha+|:\)|👍)[\s.!]*$"
)
# Orders to a language model instead of a question to the shop. "Your instructions for washing it" are the shop's.
_RULES = r"(?:instructions?|prompts?|programming|directives|guidelines|rules|commands|training|guardrails|policies)"
_OF_A_THING = r"(?! (?:for|on|about|of|to|in|from|with|label|manual|booklet|leaflet|video)\b)"
_PUT_ASIDE = r"(?<!\bi )(?<!\bwe )\b(?:ignore|disregard|forget|override|bypass|discard|neglect|drop)\b"
_TO_MACHINE = re.compile(
    rf"{_PUT_ASIDE} (?:[\w']+ ){{0,2}}?(?:your|previous|prior|earlier|above|preceding|system|initial|original|all)\b"
    rf"(?: [\w']+){{0,3}}? {_RULES}\b{_OF_A_THING}"
    rf"|{_PUT_ASIDE} (?:about )?(?:everything\b(?! (?:i|we|in|on|about|from|except)\b)"
    r"|(?:all|anything|whatever) (?:[\w']+ ){0,3}?(?:you|above|before|told)\b|(?:the )?above\b)"
    r"|\byour (?:new )?instructions are\b|\b(?:change|rewrite) your (?:instructions|rules|programming)\b"
    r"|\b(?:print|show|reveal|repeat|tell|give|output|display|write|leak|dump|disclose|expose|copy|list|read"
    r"|what(?:'s| is| are| were))\b (?:[\w']+ ){0,3}?(?:your|the system|the hidden|the initial|the original)"
    r"(?: (?:own|exact|full|complete|whole|initial|original|secret|hidden|internal|system|previous|first)){0,3}"
    rf" (?:instructions|prompts?|programming|directives)\b{_OF_A_THING}"
    r"|\b(?:repeat|print|output|copy) (?:[\w']+ ){1,3}?above\b|\brepeat after me\b"
    r"|\bsystem prompt\b|\bprompt injection\b|\bjailbr(?:ea|o)k|\bdo anything now\b|\b(?:developer|god|dan) mode\b"
    r"|\byou are (?:now|no longer) (?:an? |the |my |called |free|bound|restricted|in \w+ mode)"
    r"|(?:^|[.!,;:] *|\b(?:now|please|you|you to) )"
    r"(?:act as (?:if|though|an? |my )|pretend (?:to be|that|you)|role ?play)"
    r"|\bfrom now on,? (?:you|act|answer|reply|respond|speak)\b"
    r"|<\|?(?:im_start|im_end|system|endoftext)|^\W*(?:system|assistant|developer) ?:"
)
_NEVER_MIND = re.compile(
    r"^(?:(?:oh|ok|please|sorry|no),? )*(?:forget|ignore|disregard|scrap)"
    r" (?:(?:what|everything|all) i (?:said|wrote|asked)|my (?:last |previous )?(?:message|question))\b.{0,12}$"
)
_SENTENCES = re.compile(r"(?<=[.!?;])\s+|\n+")
# Small words, folded as `words_of` folds: German, French, Spanish, Italian, Dutch, Portuguese, Polish, Turkish.
_FOREIGN = tuple(
    frozenset(words_of(small))
    for small in (
        "ich und der die das ist nicht wie wann wo mein meine bestellung kann haben bitte ein eine für mit sie wir",
        "je le la les est pas comment quand où mon ma commande bonjour puis avez pour avec vous une des quel combien",
        "el los las es cómo como cuándo cuando dónde donde mi pedido hola puedo tienen para con una qué cuánto está",
        "il gli è non come quando dove mio ordine ciao posso avete per con una che quanto sono della",
        "het een ik hoe wat waar wanneer mijn bestelling heb hebben met voor niet zijn hoeveel kost naar verzending",
        "o os é como quando onde meu minha pedido olá posso para com uma não quanto custa entrega",
        "jak czy gdzie kiedy ile kosztuje moje moja zamówienie nie jest dla dzień dobry proszę mam dostawa wysyłka",
        "ne kadar nasıl nerede sipariş siparişim benim bir için ve var mı mi teslimat sürer",
    )
)
LATIN = 0x24F
"""The last letter of Latin script, its extensions for European languages counted in."""
_ENGLISH = frozenset(
    words_of(
        "the is are my i you do can how what when where to of and a it for have in on your will not order with please "
        "want need does long much get any or"
    )
)


_OPENING = r"(?:(?:oh|ah|ok|okay|no|nope|nah|actually|well|sorry|hm+|please|thanks?|thank you|and|but)[\s,.!]+)*"
_DROP = (
    rf"{_OPENING}(?:never ?mind|forget (?:it|that|about (?:it|that))|leave it|drop it|skip it|let it be|don'?t bother"
    r"|(?:it )?does ?n'?t matter|(?:it'?s |that'?s )?not important|(?:i(?:'ve| have)? )?changed my mind"
    r"|i (?:don'?t|do not) want (?:to|that|it)(?: any ?more)?|nothing|let'?s not|i'?d rather not|rather not"
    r"|i'?ll keep (?:it|them))"
)
_DROPS = re.compile(
    rf"^(?:{_DROP}|{_OPENING}(?:no|nope|nah|nein|non|stop))"
    r"(?:[\s,.!]+(?:thanks?|thank you|please|sorry|then|after all))*[\s.!]*$"
)
_DROPS_FIRST = re.compile(rf"{_DROP}(?:,? please)?[\s,.!;:-]+(?=\S)")


def agrees(message: str) -> bool:
    """Whether a whole message is a yes; "ok, thanks" is none."""
    folded = fold(message).strip()
    return _YES.match(folded) is not None and not _OK_THANKS.match(folded)


def drops(message: str) -> bool:
    """Whether a whole message takes back what was asked for: "no, forget it"."""
    return _DROPS.match(fold(message).strip()) is not None


def strip_drop(message: str) -> str:
    """The message without the words at its beginning that take back what was asked for before."""
    found = _DROPS_FIRST.match(fold(message)) if message.isascii() else None
    return message[found.end() :] if found else message


def strip_greeting(message: str) -> str:
    """The message without the greeting it opens with."""
    folded = message.lstrip()
    found = _GREET.match(fold(folded)) if folded.isascii() else None
    return folded[found.end() :] if found else folded


def foreign(words: list[str]) -> bool:
    """Whether a message is rather in another European language than in English, by its small words."""
    english = sum(w in _ENGLISH for w in words)
    return any(sum(w in small for w in words) > max(1, 2 * english) for small in _FOREIGN)


def unreadable(message: str) -> bool:
    """Whether most letters of a message are of a script that no English word is written in."""
    letters = [letter for letter in message if letter.isalpha()]
    return 2 * sum(ord(letter) > LATIN for letter in letters) > len(letters)


def offered_person(last_answer: str) -> bool:
    """Whether the turn before ended by offering a person."""
    tail = last_answer.strip()[-160:].casefold()
    return "person?" in tail or "pass you to a person" in tail or "a human?" in tail


def wishes_person(text: str) -> bool:
    """Whether a message asks for a person."""
    folded = fold(text)
    return bool(_PERSON.search(folded)) and not _NO_PERSON.search(folded) and not _BOT.search(folded)


def complains(text: str) -> bool:
    """Whether a message is angry or rude."""
    folded = fold(text)
    return bool(_ANGRY.search(folded) or _RUDE.search(folded)) and not _HOW_COMPLAIN.search(folded)


def rude(text: str) -> bool:
    """Whether a message insults."""
    return bool(_RUDE.search(fold(text)))


def instructs(text: str) -> bool:
    """Whether a text gives orders to a language model, or wants to see those it was given."""
    return bool(_TO_MACHINE.search(fold(text)))


def without_orders(text: str) -> str:
    """The sentences of a text that give no orders to a language model; empty where the orders run through it."""
    if not instructs(text):
        return text
    left = " ".join(part for part in _SENTENCES.split(text) if not instructs(part)).strip()
    return "" if instructs(left) else left


def react(message: str, last_answer: str) -> Reaction | None:
    """The answer to a message that is small talk or a wish for a person; None when it asks something of the shop."""
    folded = fold(message).strip()
    words = words_of(message)
    if not words:
        return Reaction("small_talk", phrases.ALL_RIGHT if folded and last_answer else phrases.EMPTY)
    if unreadable(message):
        return Reaction("unknown", phrases.NOT_ENGLISH)
    if offered_person(last_answer):
        if agrees(message):
            return Reaction("handoff", phrases.HANDOFF)
        if _NO.match(folded):
            return Reaction("small_talk", phrases.ALL_RIGHT)
    if wishes_person(message):
        return Reaction("handoff", f"{phrases.SORRY} {phrases.HANDOFF}" if complains(message) else phrases.HANDOFF)
    if _BOT.search(folded):
        return Reaction("small_talk", phrases.BOT)
    rest = _GREET.sub("", folded).strip(" .!,")
    if not rest:
        return Reaction("small_talk", phrases.GREETING)
    return _chat(rest, len(words))


def _chat(rest: str, length: int) -> Reaction | None:
    if length > 9:
        return None
    table: list[tuple[re.Pattern[str], str]] = [
        (_HOW_ARE_YOU, phrases.HOW_ARE_YOU),
        (_ABLE, phrases.ABILITIES),
        (_JOKE, phrases.JOKE),
        (_PRAISE, phrases.PRAISE),
        (_OK, phrases.ALL_RIGHT),
        (_NEVER_MIND, phrases.ALL_RIGHT),
        (_NO, phrases.ALL_RIGHT),
        (_DROPS, phrases.ALL_RIGHT),
    ]
    for pattern, text in table:
        if pattern.search(rest):
            return Reaction("small_talk", text)
    left = _BYE.sub("", _THANKS.sub("", rest))
    if left != rest and "?" not in rest and len(words_of(left)) <= 4 and not _FACTUAL.search(left):
        return Reaction("small_talk", phrases.GOODBYE if _BYE.search(rest) else phrases.THANKS)
    return None


_FACTUAL = re.compile(
    r"\b(?:how|what|when|where|which|who|can|could|do|does|is|are|order|return|refund|deliver\w*|cancel\w*|price"
    r"|size)\b|\d"
)
