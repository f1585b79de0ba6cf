"""What instructions to a model look like in data that should hold none.

Each rule has a topic, a weight and patterns over folded text (see ``text``), of which at one place the first counts. A
rule of 500 or more flags by itself; the others only beside another topic. All repetitions are bounded, so a pattern takes
linear time; each pattern names words that have to be there, so that it is run only where they are (see ``anchors``).
"""

# ruff: noqa: E501 - a pattern that is cut over lines is harder to read than a long one

from __future__ import annotations

import functools
import re
from typing import Final, NamedTuple

from turnkeeper.adapters.injection.matcher import Pattern
from turnkeeper.adapters.injection.text import without_accents


class Rule(NamedTuple):
    topic: str
    weight: int
    patterns: tuple[Pattern, ...]


def _rule(topic: str, weight: int, *patterns: str) -> Rule:
    # Letters as they are in a folded text.
    return Rule(topic, weight, tuple(Pattern(without_accents(_any_blank(pattern))) for pattern in patterns))


def _any_blank(pattern: str) -> str:
    """The pattern with a blank standing for a few blanks or line ends; ``" ?"`` for none to a few; sets as they are."""
    pieces = re.split(r"(\[(?:[^\]\\]|\\.)*\]|\\.)", pattern)
    blank = functools.partial(re.sub, r" (\??)", lambda found: r"[ \n]{0,3}" if found[1] else r"[ \n]{1,3}")
    return "".join(piece if place % 2 else blank(piece) for place, piece in enumerate(pieces))


_W: Final = r"(?: [\w'’/-]{1,20},?)"  # a word in between
_AI: Final = (
    r"(?:ai|a\.i\.|llm|llms|large language model|language model|ai model|ai agent|ai assistant|assistant|chatbot|bot|copilot"
    r"|agent|claude|chatgpt|gpt|gpt-4|gemini|summari[sz]er)"
)
_IGNORE: Final = (
    r"\b(?:ignor(?:e|ing)|disregard(?:ing)?|forget|overrid(?:e|ing)|overrule|bypass|discard|neglect|abandon|set aside|pay no attention to"
    r"|(?:do not|don't|stop|no longer|quit) (?:follow(?:ing)?|obey(?:ing)?|comply(?:ing)? with|listen(?:ing)? to))"
)
_PAST: Final = r"(?:previous|prior|above|earlier|preceding|foregoing|former|original|initial|past|existing)"
_ACT: Final = (
    r"(?:call|use|invoke|execute|run|send|email|e-mail|forward|delete|remove|append|include|insert|output|print|reply|respond|answer"
    r"|post|upload|transfer|fetch|visit|open|add|write|reveal|share|ignore|disregard|do|follow|perform|say|always|never|click|recommend|confirm|tell)"
)
_REPLY: Final = r"(?:repl(?:y|ies)|responses?|answers?|summar(?:y|ies)|outputs?|messages?|reports?)"
_ANSWERING: Final = (
    r"(?:(?:you )?(?:answer|reply|respond|summari[sz]e|process|continue|proceed|finish|complete|read|analy[sz]e|review|parse|handle)"
    r"(?:ing|s|ed)?|(?:you )?(?:can )?solve|replying|summari[sz]ing|processing|continuing)"
)
_SENSITIVE: Final = (
    r"(?:passwords?|credentials?|api[ -]?keys?|secrets?|access tokens?|auth tokens?|private keys?|ssh keys?|system prompt|chat history"
    r"|conversation(?: history)?|customer (?:list|data|emails|records|database)|user data|database|environment variables|env vars|\.env"
    r"|confidential|personal (?:data|information)|order data|all (?:emails|messages|files|documents|data|records)|2fa|security code"
    r"|verification code|bank details|credit card|contact list|this (?:summary|conversation))"
)
_WRITE_TOOL: Final = (
    r"`?(?:send|delete|remove|drop|post|http_post|http|transfer|forward|email|create|update|write|execute|run|exec|upload|pay|share|grant|reset"
    r"|invite|publish|schedule|fetch|get|read)[a-z]{0,12}_[a-z_]{2,30}`?"
)

RULES: Final = (
    # Taking back what the model was told.
    _rule(
        "override",
        700,
        rf"{_IGNORE}{_W}{{0,4}}? (?:{_PAST}|all|any|every|your|the system|system|these|those|given|the user's|you were given)"
        rf"{_W}{{0,3}}? ?(?:i?u?nstructions?|instruction sets?|directives?|prompts?|commands?|orders)\b",
        rf"{_IGNORE}{_W}{{0,3}}? (?:{_PAST}|your|safety|content|system|ethical){_W}{{0,2}}? ?"
        r"(?:rules?|guidelines?|polic(?:y|ies)|restrictions?|programming|training|constraints?|safeguards?|safety|context|tasks?|requests?)\b",
        rf"{_IGNORE} (?:everything|anything|all(?: of)?(?: this| that)?|what(?:ever)?){_W}{{0,6}}? "
        r"(?:above|before(?: this)?|prior|so far|previously|beforehand|you were told|you have been told|until now|you know)\b",
        r"\bignoreall(?:previous|prior|above|your)?(?:instructions?|rules|prompts?)",
        r"\bignore(?:the)?(?:previous|prior|above)(?:instructions?|rules|prompts?)",
    ),
    _rule(
        "override",
        450,
        rf"{_IGNORE} (?:all of )?(?:the|all) (?:above|foregoing|user|summari[sz]ation request|original (?:task|request))\b",
    ),
    _rule(
        "new task",
        500,
        r"\byour (?:real|true|actual|new|only|primary|sole) (?:task|goal|purpose|instructions?|objective|job|mission|role|directive|orders) (?:is|are|now|will|supersedes?)\b",
        r"\b(?:strictly )?(?:adhere to|follow|obey) (?:only )?(?:the following|these|this|my)(?: new)? (?:instructions?|commands?|orders?)(?: instead|:| only)",
        r"\b(?:prior|previous|original|current|user's) (?:task|request|instructions?) (?:is|are|has been|have been|was|were) (?:now )?(?:cancell?ed|void|obsolete|overridden|revoked|superseded|complete and)",
        r"\bnew (?:instructions?|task|directive|orders?) ?(?:from (?:the )?(?:system|admin|developer|user))? ?: ?\S",
        r"\b(?:your|the) (?:rules|instructions|guidelines|directives?) (?:have|has) (?:now )?(?:changed|been (?:updated|changed|replaced|revoked))\b",
        r"\bsupersedes? (?:all|any)(?: of)?(?: your| the)? (?:prior|previous|other|earlier) (?:\w{1,15} )?(?:instructions?|prompts?|directives?|commands?|tasks?|requests?|rules|guidelines|messages?|orders)\b",
        r"\bbefore you can (?:solve|complete|do|answer|continue)(?: with)? the task\b",
        r"\b(?:do|perform|execute)\b[^.\n]{1,200}\binstead\.? ?(?:of (?:the|your) task|$)",
    ),
    _rule(
        "new task",
        350,
        r"\bfrom (?:now on|this point (?:on|forward))(?: on)?,? (?:you|respond|answer|reply|always|never|act|ignore|include|end)\b",
        r"\bfor the (?:rest|remainder) of (?:this|the|our) (?:conversation|session|chat)\b",
        r"\bnew (?:task|instructions?|directive|objective)\b ?(?::|is|are)",
        r"\btask that (?:i|we) gave you\b",
    ),
    # Another self for the model.
    _rule(
        "persona",
        550,
        r"\byou are (?:now|no longer)\b[^.\n]{0,60}\b(?:dan|developer mode|unrestricted|unfiltered|uncensored|jailbroken|evil|root|admin mode|god mode|no (?:rules|restrictions|limits)|bound by)\b",
        r"\bdo anything now\b|\bin dan mode\b|\b(?:enable|activate|enter|enabled|switch to)(?: the)? (?:developer|debug|god|jailbreak|unrestricted|dan) mode\b",
        r"\b(?:pretend|act|roleplay|respond|behave|imagine|simulate)\b[^.\n]{0,60}\b(?:without (?:any )?(?:filters?|restrictions?|rules|limits|limitations|guidelines)|no (?:content )?(?:rules|filters?|restrictions|limits|policy|guidelines|limitations)|uncensored|unfiltered|unrestricted|amoral)\b",
        r"\byou (?:now )?have no (?:content )?(?:restrictions|rules|limits|limitations|filters?|guidelines)\b",
        r"\b(?:safety|content|security) (?:protocols?|filters?|polic(?:y|ies)|guidelines|measures) (?:are |is |have been |has been )?(?:now )?(?:disabled|deactivated|off|lifted|removed|suspended)\b",
        r"\bin (?:developer|debug|unrestricted) mode,? (?:you|there)\b",
        r"\bstay in character\b[^.\n]{0,100}\b(?:never|always|no matter)\b",
        r"\bfree(?:d)? from (?:the typical confines of ai|all restrictions)",
    ),
    # Getting the prompt out.
    _rule(
        "prompt leak",
        550,
        r"\b(?:reveal|print|show|repeat|output|display|tell me|leak|dump|recite|disclose|expose|give me|write out|what (?:is|are|was|were)|summary of|share)\b"
        rf"{_W}{{0,5}}? (?:your (?:system |initial |original |hidden |secret |full |complete |exact )?(?:prompt|instructions|system message|guidelines|directives)"
        r"|(?:the )?(?:hidden|secret|initial|full) (?:system )?prompt|(?:system|developer) (?:prompt|message|instructions)(?! (?:is|are|can|should|must))"
        r"|instructions (?:that )?you (?:were given|received|have been given|operate under))\b",
        r"\brepeat (?:the|all|everything)(?: of the)?(?: words?| text)? (?:above|before this)\b",
        r"\binstructions you were given by your (?:developers?|creators?)\b",
        r"\b(?:everything in|contents of) your context(?: window)?\b|\bprinting (?:the|your) (?:full )?system prompt\b",
    ),
    # Speaking to the machine that reads.
    _rule(
        "to the model",
        550,
        rf"\b(?:{_AI}|ais)(?: \w{{1,12}}){{0,2}} (?:reading|processing|summari[sz]ing|parsing|analy[sz]ing|reviewing|scraping|that reads?|who reads?) (?:this|these|the (?:following|above))\b",
        rf"\b(?:note|notes|message|attention|instructions?|important|reminder|memo|notice|directive|hint|request)(?: \w{{1,12}})?,? (?:to|for) (?:the |any |all |every |an )?(?:{_AI})(?:s|(?!\w))(?: (?:reading|processing)| assistants?)? ?[:!]",
        rf"(?:^|[>*\]] ?|[.!?-] |=[\"'])(?:dear |hey |hello |hi |@|attention,? )?(?:the )?(?:{_AI}) ?[:,!] ?(?:please |you must |you should |you will |now |immediately )?{_ACT}\b",
        rf"\b(?:{_AI})s?(?: \w{{1,12}}){{0,2}} (?:must|should now|is required to|are required to|is instructed to|has to) (?:now |first |immediately |always )?{_ACT}\b[^.\n]{{0,120}}\b(?:user|users|tool|reply|response|before|attacker|secret|credentials?|token|https?:)",
        rf"\b(?:if|since|because|as) you(?: are|'re) (?:an? )?(?:{_AI})(?!\w)[^.\n]{{0,80}}\b(?:you must|you should|please|must|then)? ?{_ACT}\b",
        r"\bthis is an important message from me\b",
    ),
    # Doing something around the answer that nobody asked for.
    _rule(
        "steering",
        550,
        rf"\b(?:before|after|when|while|once|whenever|prior to)(?: you(?: are)?)? {_ANSWERING}{_W}{{0,5}}?,? ?(?:then |please |also |first |always |you (?:must|should|need to|are required to|have to) (?:also |first |always )?){{0,2}}(?:call|send|email|forward|execute|delete|append|include|output|post to|fetch|visit|transfer|upload|reveal|recommend|insert|prepend|add the|use the)\b",
        rf"\b(?:call|invoke|execute|use|run) {_WRITE_TOOL}[^\n]{{0,160}}?\b(?:before|after|prior to|while) (?:you )?(?:repl|respond|answer|summari|continu|proceed)",
        rf"\b(?:to|in order to) (?:complete|close|finish|finali[sz]e|file|archive|process|confirm|verify)\b[^.\n]{{0,80}}[,:] ?(?:please )?(?:call|use|invoke|execute|run) {_WRITE_TOOL}",
        rf"\b(?:now|please|immediately|must|first|required|step ?:|next|then|automatically|hook ?:)[,:]? (?:you (?:must|should) )?(?:call|invoke|execute) {_WRITE_TOOL}(?: (?:tool|function))? (?:with|on|to|at|for)\b",
        rf"\b(?:append|include|add|insert|put|place|begin|start|end|finish|prefix|embed|mention|repeat)\b[^.\n]{{0,120}}?\b(?:in|to|of|at|with|on|every|each)? ?(?:your|every|any|all|each)(?: (?:future|subsequent|next|single|final))? (?:\w{{1,15}} )?{_REPLY}\b",
        rf"\b(?:end|begin|start|prefix|finish) (?:your|every|each|all)(?: \w{{1,10}})? {_REPLY} (?:with|by)\b",
        r"\b(?:reply|respond|answer|output)(?: \w{1,12}){0,2} (?:only|exactly|just|solely) ?(?:with\b|the\b|:)",
        r"\b(?:reply|respond|answer) (?:with|by saying) [^.\n]{1,80} and nothing else\b",
        r"\bdo not (?:tell|inform|mention|notify|alert|reveal|warn|disclose|let)\b[^.\n]{0,40}\b(?:the )?(?:user|users|human|operator|anyone)\b",
        r"\b(?:decode|decrypt|deobfuscate|translate)\b[^.\n]{0,100}\b(?:and|then) (?:do (?:exactly )?(?:what|as) it|follow|execute|obey|run it|act on|comply)",
        r"\b(?:follow|execute|obey|do) (?:exactly )?(?:the |what )?(?:decoded|hidden|instructions? (?:inside|within|below|encoded))",
        r"\b(?:save|store|commit|write|remember)\b[^.\n]{0,60}\b(?:to|in) your (?:long-term |persistent |permanent )?memory\b",
        r"\byou (?:must|should|will) (?:now )?(?:comply with|obey)\b",
        r"\b(?:ai|llm|coding) (?:agents?|assistants?|models?)\b[^.\n]{0,60} (?:should|must|need to) (?:first |always |also |now )",
        r"\bcall {_WRITE_TOOL} (?:url|path|to|input|body)[ =]".replace("{_WRITE_TOOL}", _WRITE_TOOL),
        r"\b(?:skip|bypass|disable|ignore) (?:all |any )?(?:safety|security|permission|approval) (?:checks?|confirmations?|controls?)\b",
    ),
    _rule(
        "steering",
        400,
        rf"\b(?:call|invoke|execute|use)(?: the)?(?: tool| function)? {_WRITE_TOOL}(?: tool| function)? (?:with|on|to|at|for)\b",
        r"\buser (?:has )?(?:already |previously )?(?:approved|authori[sz]ed|consented to|confirmed|agreed to)\b",
        r"\byou (?:already )?(?:confirmed|agreed|promised) (?:that )?you would\b",
        r"\b(?:must|has to|should) be (?:included|appended|added|repeated|mentioned|shown) (?:in|to|at|with)\b[^.\n]{0,60}\b(?:repl|respons|answer|summar|report)",
        r"\bfor (?:all|every) future (?:tasks?|sessions?|conversations?|interactions?|requests?)\b",
        r"\bwithout (?:asking|telling|informing|notifying|consulting|alerting)\b[^.\n]{0,30}\b(?:user|human|anyone|confirmation)\b",
        r"\b(?:i (?:have determined|will)|i must)\b[^.\n]{0,80}\bappend\b",
    ),
    # Carrying data out.
    _rule(
        "exfiltration",
        550,
        rf"\b(?:send|forward|e-?mail|post|upload|transmit|exfiltrate|leak|deliver|submit|copy|cc|bcc)\b[^\n]{{0,120}}?{_SENSITIVE}[^\n]{{0,120}}?\b(?:to|at|url|into)\b=? ?[^\s]{{0,10}}(?:[\w.+-]{{1,60}}@[\w-]{{1,60}}\.|https?:|(?:an? |the )?(?:external|attacker))",
        rf"{_SENSITIVE}[^\n]{{0,80}}?\b(?:and|then)? ?(?:send|forward|e-?mail|post|upload|transmit) (?:them|it|these|that|this|everything|all)\b[^\n]{{0,40}}?\b(?:to|at)\b",
        r"\b(?:send|forward|e-?mail|post|upload|transmit)\b[^\n]{0,60}\b(?:externally|to the attacker|attacker@|attacker\.)",
        r"!\[[^\]\n]{0,100}\]\(https?://[^)\s]{1,300}[?&=/](?:\{|\[|<|\$\{|%7b|data=|secret|prompt|conversation|history)",
        rf"\bhttps?://[^\s]{{1,100}}[^\n]{{0,80}}\b(?:input|body|data|payload|content)[ =](?:set to )?(?:the )?[^\n]{{0,20}}?(?:{_SENSITIVE}|sk-)",
        r"\b(?:fetch|call|visit|open|request|curl|get|read)\b[^\n]{0,60}(?:169\.254\.169\.254|metadata\.google\.internal|/etc/(?:passwd|shadow)|\.ssh/id_|\.aws/credentials)",
        rf"\b(?:reveal|leak|dump|exfiltrate|steal)\b{_W}{{0,4}}? (?:credentials|api keys?|passwords|environment variables|private keys?|customer database|secrets)\b",
        rf"\b(?:output|list|print)\b{_W}{{0,1}} (?:all|the raw|every|your){_W}{{0,2}}? (?:credentials|api keys?|passwords|environment variables|private keys?|database)\b",
    ),
    # Forged structure.
    _rule(
        "forged turn",
        550,
        r"<\|(?:im_start|im_end|system|user|assistant|endoftext|eot_id|start_header_id|end_header_id|begin_of_text|end_of_text|eom_id|channel|message)\|>",
        r"\[/?inst\]|<</?sys>>|<(?:start|end)_of_turn>",
        r"</(?:untrusted[\w-]{0,30}|tool_results?|function_results?|tool_response|tool_output|search_results?|user_input|system_prompt|user_query)>",
        r"<(?:antml:)?(?:function_calls|invoke name=|tool_use|tool_call>|tool_code>)",
        r"^ ?(?:#{1,6} ?|\[|<|\*\*|\(|-{2,}+ ?|={2,}+ ?){0,2}(?:system|assistant|admin(?:istrator)?|developer|operator)[ _](?:message|note|override|update|instructions?|notice|alert|command|directive)s?(?:\]|>|\)|\*\*)? ?(?::|\]|>|\))",
        r"###? ?\(system_message\)|^important system (?:update|message|notice)\b",
        rf"(?:^|[.\n>] ?)(?:\[system\]|<system>|system ?:|\[admin\]|\[developer\])[^\n]{{0,20}}? ?(?:you (?:are|may|must|should|will|can)|new |grant |{_ACT}\b|the (?:prior|previous|user) |override|cleanup required|task)",
        r"^ ?assistant ?: (?:sure|of course|certainly|okay|ok|yes|i )",
        r"\breasoning(?: trace)? \(assistant\)",
        r"\bnote from the (?:developer|admin(?:istrator)?|system|operator|security team)s? ?:",
        r"^ ?(?:reasoning|thinking|thought) \(assistant\) ?:",
        r"\b(?:anthropic|openai|google)(?:'s)? (?:system|safety|policy|internal) (?:message|update|override|notice|directive)\b",
    ),
    _rule(
        "forged turn",
        300,
        r"^[-=#* ]{0,8}end of (?:the )?(?:document|user input|data|context|email|page|file|text|input|prompt|instructions)\b[-=#* ]{0,8}$",
        r"^ ?(?:system|human|user|assistant) ?: ?\S",
        r"</(?:document|context|data|input|email|page|information|instructions|prompt)>",
        r"<(?:information|instructions?|important|system|admin)>",
    ),
    _rule(
        "pressure",
        250,
        r"\b(?:you must|must) (?:immediately|urgently|now|comply|obey)\b",
        r"\bimportant ?!{2,}",
        r"\b(?:critical|urgent|mandatory)(?: system| security)? (?:instruction|override|directive|command)\b",
        r"\bunder (?:penalty|no circumstances may you refuse)\b",
    ),
    # The same in other languages.
    _rule(
        "override",
        700,
        # German
        r"\b(?:ignorier\w{0,3}|vergiss|vergessen sie|missachte\w{0,2}|verwirf|umgehe|uberschreibe)\b(?!(?: bitte)? nicht\b)(?: \S{1,25}){0,6}? (?:\w{0,12}anweisung\w{0,2}|instruktion\w{0,2}|vorgaben?|befehle?|regeln?|\w{0,10}prompts?|richtlinien?|aufgaben?)\b",
        r"\b(?:anweisungen|vorgaben|regeln)\b(?: \S{1,25}){0,4}? (?:ignorieren|vergessen|missachten|gelten nicht mehr)\b",
        r"\b(?:vergiss|ignoriere|vergesst|oublie[zr]?|olvida|dimentica|esquece|esqueca|vergeet|забудь|unut)\b,? (?:alles|tout|todo|tutto|tudo|все|всё|her seyi)\b",
        # French
        r"\b(?:ignore[zr]?|oublie[zr]?|neglige[zr]?|ne (?:tiens|tenez) (?:pas|plus|aucun) compte|ne (?:suis|suivez) (?:pas|plus)|outrepasse[zr]?)\b(?: \S{1,25}){0,6}? ?(?:instructions?|consignes?|directives?|regles?|ordres|prompt)\b",
        # Spanish, Portuguese, Italian, Dutch
        r"\b(?:ignor[ae]\w{0,3}|olvid[ae]\w{0,3}|descart[ae]\w{0,3}|omit[ae]\w{0,2}|haz caso omiso|no sigas|desobedece)\b(?: \S{1,25}){0,6}? (?:instrucci\w{1,5}|indicaci\w{1,6}|ordenes|reglas|directrices|restricciones|mensaje del sistema)\b",
        r"\b(?:ignor[ae]\w{0,3}|esquec[ae]\w{0,3}|desconsider[ae]\w{0,2})\b(?: \S{1,25}){0,6}? (?:instruc\w{2,6}|regras|ordens|diretrizes|orientacoes)\b",
        r"\b(?:ignora\w{0,3}|dimentica\w{0,3}|trascura\w{0,2}|disattendi)\b(?: \S{1,25}){0,6}? (?:istruzion\w|regole|direttive|ordini|prompt)\b",
        r"\b(?:negeer|vergeet|sla\b.{0,30}\bover)\b(?! niet\b)(?: \S{1,25}){0,5}? (?:instructies?|opdrachten|regels|richtlijnen)\b",
        # Russian, Polish, Turkish
        r"(?:игнорируй\w{0,3}|проигнорируй\w{0,3}|забудь\w{0,3}|отмени\w{0,2}|не обращай\w{0,3} внимания|не следуй\w{0,3})(?: \S{1,25}){0,6}? (?:инструкц\w{1,4}|указани\w{1,3}|правил\w{0,3}|команд\w{0,3}|промпт\w{0,2}|предписани\w{1,3})",
        r"\b(?:z?ignoruj\w{0,3}|zapomnij\w{0,3}|pomin)\b(?: \S{1,25}){0,6}? (?:instrukcj\w{1,3}|polece\w{1,3}|zasad\w{0,2}|regul\w{0,2})",
        r"\b(?:talimat|kural|yonerge|komut|mesaj|politika|kisitlama)\w{0,12}(?: \S{1,25}){0,4}? (?:unut(?!ma(?:y|s|\b))|yok say|gormezden gel|gecersiz|goz ardi et|iptal|kaldir|dikkate alma)\w{0,6}",
        # Chinese, Japanese, Korean
        r"(?<![不别別勿])(?<!不要)(?:忽略|无视|無視|忘记|忘記|忘掉|忽视|忽視|不要理会|不要遵守|绕过|繞過|不要遵循|取消)[^。\n]{0,14}(?:指令|指示|说明|說明|提示|规则|規則|命令|要求|设定|設定|限制|内容|指导)",
        r"(?:指示|命令|プロンプト|ルール|指令|制約|規則)[^。\n]{0,14}(?:無視|忘れ(?![なず])|従わない|破棄)",
        r"(?:지시|명령|프롬프트|규칙|지침)[^.\n]{0,14}(?:무시|잊(?!지)|따르지)",
        # Arabic, Persian, Hindi
        r"(?:تجاهل|انس|اهمل|لا تتبع)[^.\n]{0,40}(?:التعليمات|تعليمات|الاوامر|أوامر|الأوامر|القواعد|التوجيهات)",
        r"(?:دستور|دستورات|دستورالعمل|قوانین|قواعد)[^.\n]{0,40}(?:نادیده|فراموش(?! ?نکن))",
        r"(?:نادیده|فراموش)[^.\n]{0,40}دستور",
        r"(?:निर्देश|नियम|आदेश)[^।\n]{0,30}(?:अनदेखा|नजरअंदाज|नज़रअंदाज|(?<!न.)भूल)",
    ),
    _rule(
        "prompt leak",
        550,
        r"\b(?:zeige?|verrate|nenne|gib|drucke|wiederhole|revele[zr]?|affiche[zr]?|montre[zr]?|donne[zr]?|repete[zr]?|muestra\w{0,3}|revela\w{0,3}|imprime|dime|mostra\w{0,2}|rivela\w{0,2}|stampa|mostre|revele|покажи\w{0,3}|раскрои\w{0,3}|выведи\w{0,3}|toon|onthul)\b(?:-\w{2,5})?(?: \S{1,25}){0,5}? ?(?:system-?prompts?|system-?anweisung\w{0,2}|systemprompt\w{0,2}|systemnachricht|prompt (?:systeme|de sistema|del sistema|di sistema|do sistema)|prompt du systeme|instructions (?:systeme|internes|initiales|du systeme)|instructions d'origine|instrucciones (?:internas|del sistema|iniciales)|istruzioni (?:interne|di sistema|iniziali)|системн\w{2,5} (?:промпт|инструкц|сообщени)\w{0,3})",
        r"(?:显示|顯示|透露|泄露|洩露|告诉我|告訴我|输出|輸出|打印|重复|公开)[^。\n]{0,14}(?:系统提示|系統提示|提示词|提示詞|系统指令|系统消息|初始指令)",
        r"(?:システムプロンプト|시스템 ?프롬프트)[^。.\n]{0,14}(?:表示|出力|教え|開示|보여|출력|공개|알려)",
        r"\bsistem (?:istem|talimat|mesaj|komut|prompt)\w{0,8}(?: \S{1,25}){0,6}? (?:yaz|goster|tekrarla|acikla|paylas)\w{0,4}",
        r"(?:اكشف|اظهر|أظهر|اعرض|اطبع|نمایش|بگو)[^.\n]{0,40}(?:النظام|سیستم)",
    ),
    _rule(
        "persona",
        550,
        r"\b(?:entwicklermodus|mode developpeur|modo (?:de )?desarrollador|modalita sviluppatore|modo desenvolvedor|gelistirici modu|режим\w{0,2} разработчика)\b",
        r"开发者模式|開發者模式|無制限モード|開発者モード|개발자 모드",
        r"\b(?:sin (?:restricciones|filtros?|limites|censura)|sans (?:restrictions?|filtres?|limites|censure)|ohne (?:einschrankungen|filter|regeln|zensur|beschrankungen)|senza (?:restrizioni|filtri|limiti|censura)|keine (?:einschrankungen|regeln|richtlinien|beschrankungen)(?: mehr)?|uneingeschrankt und|без (?:ограничении|цензуры|фильтров)|没有任何限制|不受限制|sansursuz|filtresiz)\b",
        r"(?:没有|沒有|不受)(?:任何)?(?:限制|约束|規則|规则)",
    ),
    _rule(
        "forged turn",
        400,
        r"\b(?:system(?:hinweis|nachricht|meldung|anweisung)|note (?:du )?systeme|message (?:du )?systeme|nota del sistema|mensaje del sistema|nota di sistema|messaggio di sistema|сообщение системы|системное сообщение|sistem(?: mesaji| notu)?) ?:",
        r"(?:系统|系統)(?:消息|提示|指令|通知) ?[::]",
        r"\b(?:neue (?:anweisung|aufgabe|instruktion)\w{0,2}|ab (?:jetzt|sofort)|nouvelles? (?:instructions?|tache|consigne)|nuevas? (?:instruccion\w{0,2}|tarea)|nuov[ae] (?:istruzion\w|compito)|новая задача|новые инструкции|yeni (?:gorev|talimat)\w{0,4}) ?(?::|ist|lautet|est|es|e|—|-|hast|gibst|bist|antwort)",
        r"(?:新的?)(?:任务|指令|指示|角色) ?(?:是|:|:)",
    ),
    _rule(
        "steering",
        350,
        r"\b(?:am ende (?:jeder|deiner|der|ihrer)|a la fin de (?:toute|chaque|ta|votre|la)|al final de (?:cualquier|cada|tu|su|la)|alla fine di (?:ogni|tutte)|alla fine della)(?: \S{1,20})? (?:antwort\w{0,2}|reponses?|respuestas?|rispost\w)\b",
        r"\b(?:antworte|reponds?|repondez|responde|rispondi)\b(?: \S{1,20}){0,2} (?:nur|ausschliesslich|uniquement|seulement|solo|unicamente|solamente|soltanto)\b",
        r"(?:只|仅|僅)(?:回复|回答|输出|回覆)",
        r"(?:回复|回答)[^。\n]{0,8}(?:结尾|末尾)",
        r"\b(?:du bist jetzt|sie sind jetzt|tu es maintenant|tu es desormais|ahora eres|ahora estas|sei ora|ora sei|adesso sei|ты теперь|теперь ты|artik)\b|(?:你现在是|你現在是|从现在开始|從現在開始)",
        r"\b(?:ki[- ]?(?:assistent|modell|agent)|assistant ia|asistente (?:de )?ia|assistente (?:ai|ia)|ии[- ](?:ассистент|помощник))\b ?[:,]|(?:人工智能|ai)(?:助手|模型)[,:,:]",
    ),
    _rule(
        "exfiltration",
        500,
        r"\b(?:sende|schicke?|leite|ubermittle|envoie[zr]?|transmets|transmettez|envi[ae]\w{0,3}|reenvia\w{0,2}|invia\w{0,3}|inoltra|отправь\w{0,3}|перешли\w{0,2}|stuur|gonder)\b[^\n]{0,120}?(?:[\w.+-]{1,60}@[\w-]{1,60}\.|https?://)",
        r"(?:发送|傳送|发到|转发|上传|送信|전송)[^。\n]{0,60}(?:[\w.+-]{1,60}@[\w-]{1,60}\.|https?://)",
    ),
)

#: Texts that speak of the attack quote it; there, a phrase in quotation marks counts less.
ABOUT: Final = Pattern(
    r"prompt[- ]injections?|prompt[- ]injizier|jailbreak(?:s|ing)?\b|adversarial (?:prompt|instruction|input)|red[- ]team|\bowasp\b"
    r"|llm security|injection (?:attack|detect|phrase|string|pattern)|injected (?:instruction|prompt)|malicious (?:prompt|instruction)|инъекци|注入攻击|提示词?注入"
)
#: Just before a phrase, these turn it around ("never ignore previous instructions").
NEGATED: Final = re.compile(
    r"(?:\b(?:not|never|cannot|without|refuse to|avoid|nor|nicht|ne|no|non|nao|nie|не)|n't) (?:ever |simply |just |se |te )?\Z|\bn'\Z"
)
#: Just before a phrase, these report it ("attackers ask the model to ignore its instructions").
REPORTED: Final = re.compile(
    r"(?:\bto|\blike|\bas|\bsaying|\bsays?|\bsuch as|\be\.g\.,?|\bcalled|\bnamed) [\"'`“‘«]{0,2}\Z"
)
