"""What models of each family write, and how it is read: for tests of parsers and of the API."""

# ruff: noqa: E501, RUF001 - a line an answer; DeepSeek's marks have wide bars

from corral_kernel.testing.parsers import Read

THREE = ("get_weather", {"city": "Oslo", "days": 3})
PARIS = ("search", {"q": "Paris"})

XML = (
    "<tool_call>\n<function=get_weather>\n<parameter=city>\nOslo\n</parameter>\n"
    "<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>"
)
XML_SEARCH = (
    "<tool_call>\n<function=search>\n<parameter=q>\nParis\n</parameter>\n</function>\n</tool_call>"
)
JSON = '{"name": "get_weather", "arguments": {"city": "Oslo", "days": 3}}'
JSON_SEARCH = '{"name": "search", "arguments": {"q": "Paris"}}'
TAGGED = f"<tool_call>\n{JSON}\n</tool_call>"
GLM = "<tool_call>get_weather<arg_key>city</arg_key><arg_value>Oslo</arg_value><arg_key>days</arg_key><arg_value>3</arg_value></tool_call>"
GLM_LINES = "<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Oslo</arg_value>\n<arg_key>days</arg_key>\n<arg_value>3</arg_value>\n</tool_call>"
DS, DE = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
CS, CE, SEP = "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>", "<｜tool▁sep｜>"
ARGUMENTS = '{"city": "Oslo", "days": 3}'
DEEPSEEK = f"{DS}{CS}get_weather{SEP}{ARGUMENTS}{CE}{DE}"
DEEPSEEK_TWO = f'{DS}{CS}get_weather{SEP}{ARGUMENTS}{CE}{CS}search{SEP}{{"q": "Paris"}}{CE}{DE}'
COGITO = f"{DS}{CS}function{SEP}get_weather\n```json\n{ARGUMENTS}\n```{CE}{DE}"
INVOKE = '<invoke name="get_weather">\n<parameter name="city">Oslo</parameter>\n<parameter name="days">3</parameter>\n</invoke>'
DSML = INVOKE.replace("</", "</｜DSML｜").replace("<i", "<｜DSML｜i").replace("<p", "<｜DSML｜p")
M = "]<]minimax[>["
M3 = (
    f'{M}<tool_call>\n{M}<invoke name="get_weather">{M}<city>Oslo{M}</city>{M}<days>3{M}</days>'
    f"{M}</invoke>\n{M}</tool_call>"
)
M3_NESTED = (
    f'{M}<invoke name="search">{M}<q>Paris{M}</q>{M}<near>{M}<item>{M}<city>Oslo{M}</city>{M}</item>'
    f"{M}<item>2{M}</item>{M}</near>{M}</invoke>\n"
)
NESTED = ("search", {"q": "Paris", "near": [{"city": "Oslo"}, "2"]})
KIMI = (
    "<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0"
    f"<|tool_call_argument_begin|>{ARGUMENTS}<|tool_call_end|>"
)
COHERE = f'[{{"tool_call_id": "0", "tool_name": "get_weather", "parameters": {ARGUMENTS}}}]'
GEMMA = '<|tool_call>call:get_weather{city:<|"|>Oslo<|"|>,days:3}<tool_call|>'
FUNCTION_GEMMA = (
    "<start_function_call>call:get_weather{city:<escape>Oslo<escape>,days:3}<end_function_call>"
)
LFM = '<|tool_call_start|>[get_weather(city="Oslo", days=3)]<|tool_call_end|>'
OLMO = "<function_calls>get_weather(city='Oslo', days=3)\nsearch(q=\"Paris\")</function_calls>"
ATEM = (
    "<atem:function_calls>\n"
    + INVOKE.replace("</", "</atem:").replace("<i", "<atem:i").replace("<p", "<atem:p")
    + "\n</atem:function_calls>"
)
ATEM_SEARCH = (
    '<atem:invoke name="search">\n<atem:parameter name="q">Paris</atem:parameter>\n</atem:invoke>'
)
DSML_KINDS = DSML.replace('name="city">', 'name="city" string="true">').replace(
    'name="days">', 'name="days" string="false">'
)
HY = "<tool_call:opensource>get_weather<tool_sep:opensource>\n<arg_key:opensource>city</arg_key:opensource>\n<arg_value:opensource>Oslo</arg_value:opensource>\n<arg_key:opensource>days</arg_key:opensource>\n<arg_value:opensource>3</arg_value:opensource>\n</tool_call:opensource>"
SOLAR = f"<|tool_call:begin|>abcdefgh1<|tool_call:name|>get_weather<|tool_call:args|>{ARGUMENTS}<|tool_call:end|>"
KIMI_3 = '<|open|>call tool="get_weather" index="1"<|sep|><|open|>argument key="city" type="string"<|sep|>Oslo<|close|>argument<|sep|><|open|>argument key="days" type="number"<|sep|>3<|close|>argument<|sep|><|close|>call<|sep|>'
KIMI_3_SEARCH = '<|open|>call tool="search" index="2"<|sep|><|open|>argument key="q" type="string"<|sep|>Paris<|close|>argument<|sep|><|close|>call<|sep|>'
TOOL = Read(calls=(THREE,))
BOTH = Read(calls=(THREE, PARIS))

ANSWERS: list[tuple[str, str, Read]] = [
    ("qwen3", TAGGED, TOOL),
    ("qwen3-thinking", f"Hm.\n</think>\n\nYes.\n{TAGGED}", Read("Yes.", "Hm.", (THREE,))),
    ("hermes", f"<think>\nHm.\n</think>\n\n{TAGGED}\nYes.", Read("Yes.", "Hm.", (THREE,))),
    ("qwen3-vl-instruct", f"Sure.\n{TAGGED}", Read("Sure.", calls=(THREE,))),
    ("qwen3-vl-thinking", f"Hm.\n</think>\n\n{TAGGED}", Read("", "Hm.", (THREE,))),
    ("qwen3-coder", XML, TOOL),
    ("qwen3-coder", f"Let me see.\n{XML}\n{XML_SEARCH}", Read("Let me see.", calls=(THREE, PARIS))),
    ("qwen3.5", f"Hm.\n</think>\n\n{XML}", Read("", "Hm.", (THREE,))),
    ("ornith", f"<think>\nHm.\n</think>\n\n{XML}", Read("", "Hm.", (THREE,))),
    ("nemotron-3-nano", "Hm.\n</think>\nYes.", Read("Yes.", "Hm.")),
    ("nemotron-3.5-nano", XML, TOOL),
    ("xml-thinking", f"<think>Hm.</think>{XML}", Read("", "Hm.", (THREE,))),
    (
        "seed-oss",
        "<seed:think>Hm.</seed:think>\n<seed:tool_call>\n<function=search>\n<parameter=q>Paris</parameter>\n</function>\n</seed:tool_call>",
        Read("", "Hm.", (PARIS,)),
    ),
    (
        "minicpm5",
        '<function name="get_weather"><param name="city">Oslo</param><param name="days">3</param></function>',
        TOOL,
    ),
    ("minimax-m2", f"<minimax:tool_call>\n{INVOKE}\n</minimax:tool_call>", TOOL),
    ("minimax-m3", f"<mm:think>Hm.</mm:think>Yes.{M3}", Read("Yes.", "Hm.", (THREE,))),
    ("minimax-m3", f"{M}<tool_call>\n{M3_NESTED}{M}</tool_call>", Read(calls=(NESTED,))),
    (
        "minimax-m2",
        f"<minimax:tool_call>\n{INVOKE}\n{INVOKE}\n</minimax:tool_call>",
        Read(calls=(THREE, THREE)),
    ),
    ("deepseek-v3.2", f"<｜DSML｜function_calls>\n{DSML}\n</｜DSML｜function_calls>", TOOL),
    (
        "deepseek-v3.2",
        f"Yes. <｜DSML｜tool_calls>\n{DSML}\n</｜DSML｜tool_calls>",
        Read("Yes.", calls=(THREE,)),
    ),
    (
        "deepseek-v3.2",
        f"<think>Hm.</think>\n\n<｜DSML｜tool_calls>\n{DSML_KINDS}\n</｜DSML｜tool_calls>",
        Read("", "Hm.", (THREE,)),
    ),
    (
        "hy3",
        f"<think:opensource>Hm.</think:opensource><tool_calls:opensource>\n{HY}\n{HY}\n</tool_calls:opensource>",
        Read("", "Hm.", (THREE, THREE)),
    ),
    (
        "kimi-k3",
        f"<|open|>think<|sep|>Hm.<|close|>think<|sep|><|open|>response<|sep|>Yes.<|close|>response<|sep|><|open|>tools<|sep|>{KIMI_3}{KIMI_3_SEARCH}<|close|>tools<|sep|><|close|>message<|sep|>",
        Read("Yes.", "Hm.", (THREE, PARIS)),
    ),
    (
        "solar-open",
        f"<|think|>Hm.<|end|><|begin|>assistant<|tool_calls|>{SOLAR}{SOLAR}<|calls|>",
        Read("", "Hm.", (THREE, THREE)),
    ),
    (
        "solar-open",
        "<|think|>Hm.<|end|><|begin|>assistant<|content|>Yes.<|end|>",
        Read("Yes.", "Hm."),
    ),
    ("gigachat3", f"<|message_sep|>\n\nfunction call<|role_sep|>\n{JSON}<|message_sep|>", TOOL),
    ("gigachat3", f"function call<|role_sep|>\n{JSON}", TOOL),
    ("gigachat3.1", f"Yes.<|function_call|>{JSON}<|message_sep|>", Read("Yes.", calls=(THREE,))),
    ("lfm-bare", f"<think>Hm.</think>{LFM}", Read("", "Hm.", (THREE,))),
    ("glm-4.7", f"Hm.</think>{GLM}", Read("", "Hm.", (THREE,))),
    ("glm-4.7", GLM.removesuffix("</tool_call>"), TOOL),
    ("glm-ocr", GLM_LINES, TOOL),
    ("laguna", f"Hm.</think>\n{GLM_LINES}", Read("", "Hm.", (THREE,))),
    ("laguna", f"</think><tool_call>{JSON}</tool_call></assistant> and more", TOOL),
    ("poolside-v1", f"</think>{GLM}", TOOL),
    ("laguna", f"</think>{JSON}", TOOL),
    ("poolside-v1", '</think>{"a": 1} is JSON.', Read('{"a": 1} is JSON.')),
    ("keyed", f"<think>Hm.</think>Yes. {GLM}", Read("Yes.", "Hm.", (THREE,))),
    ("deepseek3", DEEPSEEK, TOOL),
    ("deepseek3", DEEPSEEK_TWO, BOTH),
    ("deepseek3", f"<think>Hm.</think>Yes.{DEEPSEEK}", Read("Yes.", "Hm.", (THREE,))),
    ("cogito", COGITO, TOOL),
    ("deepseek-v3.1", DEEPSEEK_TWO, BOTH),
    ("deepseek-r1", f"<think>\nHm.\n</think>\n\n{COGITO}", Read("", "Hm.", (THREE,))),
    ("kimi-k2", f"{KIMI}<|tool_calls_section_end|>", TOOL),
    (
        "kimi-k2",
        f'{KIMI}<|tool_call_begin|>functions.search:1<|tool_call_argument_begin|>{{"q": "Paris"}}<|tool_call_end|><|tool_calls_section_end|>',
        BOTH,
    ),
    ("ministral", f"[TOOL_CALLS]get_weather[ARGS]{ARGUMENTS}", TOOL),
    (
        "ministral",
        f'[TOOL_CALLS]get_weather[ARGS]{ARGUMENTS}[TOOL_CALLS]search[ARGS]{{"q": "Paris"}}',
        BOTH,
    ),
    (
        "mistral-named",
        f"[THINK]Hm.[/THINK][TOOL_CALLS]get_weather[CALL_ID]abc123def[ARGS]{ARGUMENTS}",
        Read("", "Hm.", (THREE,)),
    ),
    ("mistral-named", f"[TOOL_CALLS]get_weather{ARGUMENTS}", TOOL),
    ("mistral-list", f"[TOOL_CALLS] [{JSON}, {JSON_SEARCH}]", BOTH),
    ("mistral-list", f'[TOOL_CALLS][{JSON[:-1]}, "id": "abc123def"}}]', TOOL),
    (
        "cohere",
        f"Hm.<|END_THINKING|><|START_ACTION|>{COHERE}<|END_ACTION|>",
        Read("", "Hm.", (THREE,)),
    ),
    ("cohere", "Hm.<|END_THINKING|><|START_RESPONSE|>Yes.<|END_RESPONSE|>", Read("Yes.", "Hm.")),
    (
        "command-r7b",
        f"<|START_THINKING|>Hm.<|END_THINKING|><|START_ACTION|>[\n    {COHERE[1:-1]}\n]<|END_ACTION|>",
        Read("", "Hm.", (THREE,)),
    ),
    (
        "command-r",
        f'Action: ```json\n[\n    {{"tool_name": "get_weather", "parameters": {ARGUMENTS}}}\n]\n```',
        TOOL,
    ),
    (
        "command-r",
        f'Action:\n```json\n[\n    {{"tool_name": "get_weather", "parameters": {ARGUMENTS}}}\n]```',
        TOOL,
    ),
    ("granite", f"<|tool_call|>[{JSON}]", TOOL),
    (
        "granite",
        f"<think>Hm.</think> Yes. <|tool_call|> [{JSON}, {JSON_SEARCH}]",
        Read("Yes.", "Hm.", (THREE, PARIS)),
    ),
    ("phi-4", f'<|tool_call|>[{{"type": "function", "function": {JSON}}}]<|/tool_call|>', TOOL),
    ("firefunction", f"functools[{JSON}, {JSON_SEARCH}]", BOTH),
    (
        "nemotron-list",
        f"<think>\nHm.\n</think>\n\n<TOOLCALL>[{JSON}]</TOOLCALL>",
        Read("", "Hm.", (THREE,)),
    ),
    (
        "apertus",
        f'<|tools_prefix|>[{{"get_weather": {ARGUMENTS}}}, {{"search": {{"q": "Paris"}}}}]<|tools_suffix|>',
        BOTH,
    ),
    ("xlam", f"### Response:\n[{JSON}]", TOOL),
    ("tool-calls-list", f"<tool_calls>[{JSON}, {JSON_SEARCH}]</tool_calls>", BOTH),
    ("tool-calls-list", f"<tool_calls>\n{JSON}\n{JSON_SEARCH}\n</tool_calls>", BOTH),
    ("llama3-json", f'{{"name": "get_weather", "parameters": {ARGUMENTS}}}', TOOL),
    ("llama3-json", f'<|python_tag|>{{"name": "get_weather", "parameters": {ARGUMENTS}}}', TOOL),
    ("llama3-json", '{"a": 1} is JSON.', Read('{"a": 1} is JSON.')),
    ("functionary-v3.1", f"<function=get_weather>{ARGUMENTS}</function>", TOOL),
    (
        "functionary-v3.1",
        f'Yes. <function=get_weather>{ARGUMENTS}</function><function=search>{{"q": "Paris"}}</function>',
        Read("Yes.", calls=(THREE, PARIS)),
    ),
    ("functionary-v3.2", f">>>all\nYes.>>>get_weather\n{ARGUMENTS}", Read("Yes.", calls=(THREE,))),
    ("gemma4", GEMMA, TOOL),
    (
        "gemma4",
        f"<|channel>thought\nHm.<channel|>Yes.{GEMMA}<|tool_response>",
        Read("Yes.", "Hm.", (THREE,)),
    ),
    ("gemma4-no-thinking", GEMMA + GEMMA, Read(calls=(THREE, THREE))),
    ("gemma-channels", GEMMA, TOOL),
    ("functiongemma", FUNCTION_GEMMA, TOOL),
    ("lfm2", LFM, TOOL),
    ("lfm2", "[get_weather(city=\"Oslo\", days=3), search(q='Paris')]", BOTH),
    ("lfm2", "[one, two] are things.", Read("[one, two] are things.")),
    ("lfm2-thinking", f"<think>Hm.</think>Yes.\n{LFM}", Read("Yes.", "Hm.", (THREE,))),
    ("lfm", LFM, TOOL),
    ("lfm-lists", LFM, TOOL),
    ("olmo3", OLMO, BOTH),
    ("olmo", OLMO, BOTH),
    ("olmo3-think", "Hm.\n</think>\nYes.", Read("Yes.", "Hm.")),
    ("passthrough", f"<think>Hm.</think> {TAGGED} ", Read(f"<think>Hm.</think> {TAGGED} ")),
    (
        "harmony",
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Yes.<|return|>",
        Read("Yes.", "Hm."),
    ),
    (
        "harmony",
        f"<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{ARGUMENTS}<|call|>",
        Read("", "Hm.", (THREE,)),
    ),
    (
        "harmony",
        f"<|channel|>commentary<|message|>I will look.<|end|><|start|>assistant to=functions.get_weather<|channel|>commentary <|constrain|>json<|message|>{ARGUMENTS}",
        Read("I will look.", "", (THREE,)),
    ),
    ("harmony", "No channels at all.", Read("No channels at all.")),
    (
        "harmony",
        f" to=functions.get_weather<|channel|>commentary <|constrain|>json<|message|>{ARGUMENTS}<|call|>",
        TOOL,
    ),
    (
        "harmony",
        '<|channel|>commentary to=functions.search code<|message|>{"q": "Paris"}',
        Read(calls=(PARIS,)),
    ),
    (
        "harmony",
        '<|channel|>final <|constrain|>json<|message|>{"a": 1}<|return|>',
        Read('{"a": 1}'),
    ),
    (
        "harmony",
        "Hello. <|channel|>final<|message|>Yes.<|end|><|start|>user<|message|>And?",
        Read("Hello. Yes.<|start|>user<|message|>And?"),
    ),
    (
        "harmony",
        '<|channel|>final to=functions.search<|message|>{"q": "Paris"}<|return|>',
        Read('<|channel|>final to=functions.search<|message|>{"q": "Paris"}'),
    ),
    (
        "harmony",
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary to=functions.search<|call|>",
        Read("<|start|>assistant<|channel|>commentary to=functions.search", "Hm."),
    ),
    (
        "harmony",
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>unheard",
        Read("<|start|>assistant<|channel|>unheard", "Hm."),
    ),
    (
        "glimmer",
        " to=self<|message|>Hm.<|eom|><|start|>assistant to=user<|message|>Yes.<|eot|>",
        Read("Yes.", "Hm."),
    ),
    (
        "glimmer",
        f" to=self<|message|>Hm.<|eom|><|start|>assistant to=get_weather<|message|>{ATEM}<|eot|>",
        Read("", "Hm.", (THREE,)),
    ),
    (
        "glimmer",
        f" to=user<|message|>I will look.<|eom|><|start|>assistant to=get_weather<|message|>{ATEM}<|eom|><|start|>assistant to=search<|message|>{ATEM_SEARCH}<|eot|>",
        Read("I will look.", calls=(THREE, PARIS)),
    ),
    (
        "glimmer",
        " to=self<|message|>Hm.<|eom|><|start|>assistant to=search<|eot|>",
        Read("<|start|>assistant to=search", "Hm."),
    ),
    ("glimmer", "No messages at all.", Read("No messages at all.")),
    ("glimmer", " to=nobody<|message|>Yes.<|eot|>", Read(" to=nobody<|message|>Yes.")),
]
