"""How a customer's message reads as a request: about the customer's own matter or about a rule, and what is to be done.

Knows no tools. Everything is read off the words of one message.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from fairlead.engines.embed.words import fold

_POLICY = re.compile(
    r"\b(?:how (?:long|much|do i|can i|does|many|soon|fast|often)|what(?:'s| is| are) (?:your|the)|what (?:does"
    r"|do|would"
    r"|will) (?!my)|do you (?!have)|is it possible|are (?:returns|you)|which|policy|in general|usually"
    r"|can i (?:still )?(?:return|cancel|exchange|pay|get|pick|change)|am i allowed|until when|what happens"
    r"|what if|by when)\b"
)
_PERSONAL = re.compile(
    r"\bmy (?:last |recent |new |latest |current |own |whole )?(?:order|parcel|package|delivery|refund|return"
    r"|purchase|shipment|stuff|subscription|account|address|money|invoice|booking|appointment|item|ticket|points"
    r"|details|email|password|basket|repair|bike|bill|voucher|coupon|code|reservation|bag|bags|box)"
    r"|\b(?:order|parcel|ticket|booking|invoice|account|subscription) (?:number |no\.? |nr\.? |id )?#?\w*-?\d"
    r"|\b(?:i|we) (?:ordered|bought"
    r"|placed)\b|#\d|\bmine\b|\b(?:call|ring|phone|tell|send|give|book|sign|take|put|add) me\b"
)
_REQUEST = re.compile(
    r"^(?:(?:please|pls|hi|hello|hey|ok|so|and|then)[ ,!]+)*(?:cancel|change|update|track|check|find|look|return"
    r"|refund|exchange|book|reserve|order|send|show|give|get|start|open|create|add|remove|stop|pause|reset|apply"
    r"|tell me (?:where|the status)|where(?:'s| is| are) my|status|schedule|subscribe|unsubscribe|register|call|ring"
    r"|phone|sign|take|put|move|shift|redirect|resend|mail|don'?t send|bin|scrap|drop|skip|hold|swap)\b"
    r"|\b(?:i|we)(?:'d| would)? (?:want|like|need|have|wish|wanna|rather)(?: you)?(?: to)? (?:to )?(?:cancel|change"
    r"|update|track|check|find|know where|return|send|refund|exchange|book|reserve|start|open|get|make|add|remove"
    r"|pause|reset|see|subscribe|unsubscribe|be called|call|move|stop|reorder|repeat|close|pay|lower|raise|report"
    r"|know (?:when|if|whether|how)|give you)\b"
    r"|\bhas (?:the|order|booking)\b[^?]*\d"
    r"|\b(?:can|could|would|will) (?:you|someone|somebody|anyone) (?:please |kindly |just )?(?:cancel|change|update"
    r"|track|check|find|look|return|refund|exchange|book|reserve|send|show|tell me where|start|open|create|add"
    r"|remove|stop|reset|see|get|call|ring|phone|give me|move|shift|pause|put|take|mail|redirect|resend|scrap)\b"
    r"|\bwhere(?:'s| is| are)? my\b|\bwhen (?:will|is|does) my \w+|\bmy (?:order|parcel|package|delivery) (?:is|was"
    r"|has|did|never|still)\b|\bshould have (?:been here|arrived|come)|(?:\b(?:never|not|havent"
    r"|didnt)|n't) (?:yet )?(?:received?|got|get|arrived?|come|came)\b|\bnothing (?:has )?(?:came|come|arrived)"
    r"|\bhas my\b|\bis my (?:order|parcel|package|refund)\b|\bnot (?:arrived|here yet|come)\b|\bhasn'?t (?:arrived"
    r"|come|shown)|\bplease\b"
)
_GENERAL = re.compile(
    r"^(?:(?:hi|hello|hey|and|but|so|ok|excuse me"
    r"|(?:please |can you |could you )?tell me)[ ,!]+)*(?:why|who|do i|will i"
    r"|would i|am i|where (?:do|can|should|would) (?:i|we)|how to|is it|is there|are there"
    r"|should i|must i|does|do you|do your|are you|are your|can i|may i|how (?:do|can|long|much|many|often|soon)"
    r"|what (?:if|happens|now|can|do|should)|which|when do|by when|until when)\b"
    r"|\bwhat (?:now|can i do|should i do|happens)\b"
)
# Days that no argument can say: a tool that wants a day would be called for another.
_VAGUE_DAY = re.compile(
    r"\b(?:mon|tues|wednes|thurs|fri|satur|sun)days\b|\bweekends?\b|\bholidays?\b|\bchristmas\b|\beaster\b"
    r"|\bnew year|\bboxing day\b"
)
# What is done with a thing, whatever the thing: a message and a tool that name different deeds do not belong together.
_ACTIONS: dict[str, re.Pattern[str]] = {
    name: re.compile(rf"\b(?:{pattern})\b")
    for name, pattern in {
        "cancel": (
            r"mistake|get rid of|don'?t need|cancel\w*|call(?:ed)? off|stop(?:ped)?|void|withdraw\w*|revoke"
            r"|abort|undo|scrap|bin|"
            r"don'?t (?:want|need|send)|do not (?:want|need|send)|no longer (?:want|need)|not need|drop"
            r"|won'?t (?:be )?need\w*|can'?t make it|take (?:\w+ ){1,3}off|leave out|remove\w*"
            r"|(?:send|deliver|ship|order) (?:\w+ ){0,3}without the"
        ),
        "track": (
            r"(?:not|never|\w+n'?t) (?:been )?mov(?:ed?|ing)|left (?:yet|you)"
            r"|(?:did|have|had) (?:i|we) (?:book|order|buy|reserve)\w*|(?:i|we)(?: have|'ve)? booked"
            r"|has it left|should have (?:been|come|arrived)|whereabouts|movement|an? updates?|any updates?"
            r"|(?:go|gone|went) out|(?:have|did) you (?:\w+ )?sen[dt]|been delivered|nobody(?:'?s| has)? (?:been|come)"
            r"|g[eo]t lost|out for delivery"
            r"|when will (?:it|they)|track\w*|status|where|look ?up|check|find|show\w*|follow|news|arriv\w*"
            r"|ready|progress|how far|"
            r"get here|look\w* for|state|waiting|not come|no sign|missing|late|overdue|"
            r"(?:not|never|\w+n't|havent|hasnt|didnt) (?:yet )?(?:received?|got|come|arrived|here|turned up)|"
            r"sent yet|been sent|left (?:your|the)|happening|got to|on its way|shipped|confirmed|all ok|is coming"
            r"|pick(?:ed)? (?:\w+ )?up|collect|due (?:yesterday|today|tomorrow|on|last|this)|isn'?t here"
        ),
        "return": (
            r"go(?:es|ing)? back|not keeping|return label|taken back|return\w*|send (?:\w+ ){0,2}back"
            r"|give (?:\w+ ){0,2}back|take (?:\w+ ){0,2}back|"
            r"bring (?:\w+ ){0,2}back|sent? back"
        ),
        "change": (
            r"chang\w*|(?<!an )(?<!any )updat\w*|(?<!not )(?<!n't )(?<!nt )(?<!never )mov(?:e|es|ed|ing)"
            r"|redirect\w*|shift\w*|edit|modify|new address"
            r"|wrong (?:\w+ )?(?:address|number|name|date|day|house number)|swap\w*|exchang\w*|"
            r"another address|different (?:address|date|day)|instead|go to my|"
            r"to my (?:office|work|neighbour)|resched\w*|postpone|rather than|another (?:day|time|e ?mail|one)"
            r"|lower\w*|rais(?:e|ed)|reduc\w*|put (?:\w+ ){0,5}(?:up|down) to|make it \d+|from now on|bring forward"
            r"|(?:an?|one|two|\d|few) (?:hours?|days?|weeks?) (?:later|earlier|sooner)|prefer|not (?:at |to )?my old"
            r"|(?:deliver|ship|send) (?:\S+ ){1,3}to (?:my|our|the|\d)"
        ),
        "book": (
            r"drop in|pop in|come (?:in|round|and \w+)|(?<!did i )(?<!we )(?<!\bi )(?<!'ve )book(?:ed|s)?|book(?:ed)? "
            r"(?:me )?in|appointment\w*|reserv\w*|keep (?:us |me )?an? \w+ (?:for|free)"
            r"|slot|schedul\w*|make an?|come by|"
            r"bring (?:my|it|\w+ \w+ (?:bike|car|phone|laptop|\w+) in)|drop (?:it|them|\w+ \w+) off|visit|aside|plan"
        ),
        "send": (
            r"resend|(?<!e )(?<!the )(?<!my )mail (?:me|us|it|them|my)|copy|invoice|bill|receipt|(?:never|not|n'?t) "
            r"(?:got|get|received?|landed) (?:my|the|an?|any) (?:\w+ )?(?:e ?mail|mail|invoice|confirmation|tickets?)"
            r"|samples?|swatch\w*|post me|e ?mails? (?:me|us|my|the|tickets?|copy|copies|invoice)|inbox|spam"
            r"|(?:sen[dt]s?|get|e ?mail) (?:\S+ ){0,7}(?:again|once more)"
            r"|(?:deleted|lost|can'?t find) (?:the|my|your) (?:e ?mail|mail|tickets?|confirmation|invoice|receipt)"
        ),
        "call": (r"phone call|call\w*|ring\w*|phone\w*|telephone|give me a (?:ring|call)|reach me"),
        "pay": (r"refund\w*|pay back|pays? money|money back|reimburs\w*|back for"),
        "join": (
            r"put me (?:on|down)|your news|news to|hear (?:about|from)|subscribe\w*|sign(?:ed|s)? (?:me )?up|join|adds?"
            r"|keep (?:me|us) (?:posted|informed|up to date|in the loop)|let (?:me|us) know (?:about|of|when) new"
            r"|mailing list|newsletter|register"
        ),
        "leave": (
            r"unsubscribe\w*|opt out|off (?:your|the) (?:mailing list|newsletter|list)|stop sending|"
            r"takes? \w+ off"
        ),
        "pause": (r"paus\w*|on hold|suspend|skip|interrupt|stop (?:\S+ ){0,2}for|for (?:an?|two|three|\d+) months?"),
        "report": (
            r"report\w*|broken|broke|damag\w*|smashed|cracked|faulty|not working|does ?n'?t work|won'?t \w+|stuck"
            r"|gone out|went out|power cut|outage|no (?:power|electricity|water|heating|internet|signal)|leak\w*"
            r"|scratched|puncture\w*|flat (?:tyre|tire|battery)|missing from|incomplete|fault|torn|dented|snapped|bent"
            r"|wilted|dead|rotten|mould\w*|melted|dirty|stained|burst|spil(?:t|led)|soaked|crushed|squashed|ripped|chipped"
            r"|wobbl\w*|rattl\w*|(?:came|arrived|turned up|sent) (?:\w+ ){0,2}(?:without|wrong|brown|open|empty|wet)"
            r"|wrong (?:colour|item|thing|one|product|flowers|model)|in (?:bits|pieces)|instead of the one"
        ),
        "balance": (r"owe\w*|balance|in credit|credit|last bill|statement|outstanding|to pay"),
        "record": (r"readings?|meter|submit\w*|record"),
        "repeat": (r"repeat\w*|re ?order\w*|same again|order (?:\w+ ){0,2}again|once more"),
        "stock": (
            r"still (?:get|have)|have you (?:one|any|got)|stock\w*|availab\w*|inventory|in size|in (?:a"
            r"|my) size|have (?:the|you got|a)|got (?:the|any)|"
            r"(?:there|any|one|some) [^.?!]{0,30}left"
        ),
        "price": (r"charge|rate|what would|price|cost\w*|quote|postage|how much|fee|calculat\w*"),
        "notify": (
            r"notif\w*|let (?:me|us) know|drop (?:me|us) a (?:line|mail|note)|alert\w*|(?:in stock|available) again"
            r"|(?:tell|e ?mail|text|message) (?:me|us) (?:when|once|if|as soon)|back in(?: stock)?"
        ),
        "order": (
            r"^orders|^order (?:an?|the|some|more|one)|(?:like|want|need) to order|more packs?|more of|another pack"
            r"|need (?:more|another|some more)|top ?up|refill\w*|nearly gone|almost gone|run(?:ning)? (?:out|low)"
        ),
        "voucher": (r"voucher\w*|coupon\w*|code\w*|redeem|discount|money off"),
        "hours": (r"open\w*|clos\w*|hours"),
    }.items()
}


_OWN = re.compile(r"\b(?:my|mine|our|i've|i'm)\b|\b(?:i|we) (?:ordered|bought|lost|moved)\b")
_INDEFINITE = re.compile(
    r"\b(?:stuff|something|(?<!received )(?<!got )(?<!ordered )anything|things|an? (?:order|item|return|subscription"
    r"|booking|voucher|parcel|refund|gift card)"
    r"|orders|items|returns|subscriptions|bookings|vouchers|parcels|repairs|refunds|usually|normally|generally"
    r"|always)\b"
)
_IF = re.compile(r"\b(?:if|once|after|unless)\b")


class Manner(NamedTuple):
    """What kind of message it is; each sign by itself proves nothing."""

    personal: bool
    request: bool
    policy: bool
    general: bool
    own: bool
    indefinite: bool
    conditional: bool
    vague_day: bool
    asks: bool


def manner_of(message: str) -> Manner:
    """The signs of a message as it was typed."""
    told = fold(message)
    return Manner(
        bool(_PERSONAL.search(told)),
        bool(_REQUEST.search(told)),
        bool(_POLICY.search(told)),
        bool(_GENERAL.search(told)),
        bool(_OWN.search(told)),
        bool(_INDEFINITE.search(told)),
        bool(_IF.search(told)),
        bool(_VAGUE_DAY.search(told)),
        "?" in message,
    )


def deeds_of(folded: str) -> frozenset[str]:
    """What a folded text wants done or offers to do: cancel, track, book, ..."""
    return frozenset(name for name, pattern in _ACTIONS.items() if pattern.search(folded))
