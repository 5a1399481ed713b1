//! Chat templates of real families render as Hugging Face's implementation renders them
//! (`templates/make_golden.py`), and hostile ones are stopped.

use std::path::Path;

use serde_json::{Map, Value};
use zse_format::{Checkpoint, EncodedValue, GgufWriter};
use zse_text::{
    CHATML, ChatInput, ChatTemplate, Message, PLAIN, Role, TextError, Tokenizer, template_reads,
};

fn file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/templates")
        .join(name);
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn templates_render_as_hugging_face_renders_them() {
    let golden: Value = serde_json::from_str(&file("golden.json")).unwrap();
    let tools = golden["tools"].as_array().unwrap();
    let mut texts = 0;
    for case in golden["cases"].as_array().unwrap() {
        let template =
            ChatTemplate::from_source(&file(case["template"].as_str().unwrap())).unwrap();
        let chat = &golden["chats"][case["chat"].as_str().unwrap()];
        let messages: Vec<Message> = serde_json::from_value(chat.clone()).unwrap();
        let mut extra = case["extra"].as_object().unwrap().clone();
        extra.insert("bos_token".into(), "<s>".into());
        extra.insert("eos_token".into(), "</s>".into());
        let rendered = template.render(&ChatInput {
            messages: &messages,
            tools: if case["tools"] == true { tools } else { &[] },
            add_generation_prompt: case["add_generation_prompt"] == true,
            extra,
            ..ChatInput::default()
        });
        let what = format!("{} {} {}", case["template"], case["chat"], case["tools"]);
        match rendered {
            Ok(text) => {
                assert_eq!(case["text"], text, "{what}");
                texts += 1;
            }
            Err(TextError::Refused { message }) => assert_eq!(case["refused"], message, "{what}"),
            Err(error) => assert!(case["fails"].is_string(), "{what}: {error}"),
        }
    }
    assert!(texts > 150);
}

fn render(source: &str) -> Result<String, TextError> {
    let messages = [
        Message::new(Role::User, "hi"),
        Message::new(Role::Assistant, "yes"),
    ];
    ChatTemplate::from_source(source)?.render(&ChatInput {
        messages: &messages,
        ..ChatInput::default()
    })
}

#[test]
fn hostile_templates_are_stopped() {
    let doubling = |step: &str| {
        format!(
            "{{% set ns = namespace(x='ab', l=[1]) %}}{{% for i in range(100) %}}{step}{{% endfor %}}done"
        )
    };
    let on_a_list = |step: &str| {
        format!(
            "{{% set l = range(100000) | list %}}{{% for i in range(99999) %}}{{% set {step} %}}{{% endfor %}}"
        )
    };
    let hostile = [
        "{{ 'x' * 10**9 }}",
        "{{ ('x' * 10**7) * 10**7 }}",
        "{{ [1] * 10**9 }}",
        "{% for i in range(10**12) %}x{% endfor %}",
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% for i in range(99999) %}{% for j in range(99999) %}xxxxxxxxxxxxxxxxxxxxxxxx{% endfor %}{% endfor %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(40) }}",
        "{% block a %}{{ self.a() }}{% endblock %}",
        "{{ '%1000000000d' | format(1) }}",
        "{{ '%*d' | format(1000000000, 1) }}",
        "{{ '{:1000000000}'.format(1) }}",
        "{{ '{:{}}'.format(1, 1000000000) }}",
        "{{ 'x' | indent(1000000000) }}",
        "{{ [1] | batch(1000000000, 'x') | list }}",
        "{{ [1] | slice(1000000000) | list }}",
        "{{ range(100000) | join('x' * 1000000) }}",
        "{{ ('a' * 100000) | replace('a', 'b' * 100000) }}",
        "{{ ('a' * 100000).replace('a', 'b' * 100000) }}",
        "{{ range(100000) | map('replace', '1', 'x' * 1000000) | list }}",
        "{% set s = 'a' * 10000000 %}{% for i in range(99999) %}{{ s == s ~ 'x' }}{% endfor %}",
        "{% set s = 'a' * 1000000 %}{% for i in range(99999) %}{% if s[1:] == 'b' %}{% endif %}{% endfor %}",
        "{% set s = 'a' * 1000000 %}{% for i in range(99999) %}{% if s[999999] == 'b' %}{% endif %}{% endfor %}",
        "{% set s = 'a' * 1000000 %}{% for i in range(99999) %}{% if 'b' in s %}{% endif %}{% endfor %}",
        "{% set s = 'a' * 1000000 %}{% for i in range(99999) %}{% set t = s | upper %}{% endfor %}",
        "{% set s = 'a' * 1000000 %}{% for i in range(99999) %}{% set t = s | list %}{% endfor %}",
        "{% set s = 'a' * 1000000 %}{% for i in range(99999) %}{% for c in s %}{% break %}{% endfor %}{% endfor %}",
        "{% set s = 'a' * 1000000 %}{% for i in range(99999) %}{% set t = s.split('a') %}{% endfor %}",
        &doubling("{% set ns.x = ns.x ~ ns.x %}"),
        &doubling("{% set ns.x = ns.x + ns.x %}"),
        &doubling("{% set ns.x = [ns.x, ns.x] | join %}"),
        &doubling("{% set ns.x %}{{ ns.x }}{{ ns.x }}{% endset %}"),
        &doubling("{% set ns.x = ns.x | replace('a', ns.x) %}"),
        &doubling("{% set ns.x = ns.x | tojson | tojson %}"),
        &doubling("{% set ns.l = ns.l + ns.l %}{% set ns.l = ns.l | list %}"),
        &doubling("{% set ns.l = [ns.l, ns.l] %}"),
        &doubling("{% set ns.l = {'a': ns.l, 'b': ns.l} %}"),
        &doubling("{% set ns.l = ns.l + ns.l %}{% if 7 in ns.l %}{% endif %}"),
        "{% if (('a'*1000)*4000).strip(('b'*1000)*4000 ~ 'a') %}{% endif %}",
        "{% if (('a'*1000)*4000).rstrip(('b'*1000)*4000 ~ 'a') %}{% endif %}",
        "{% set s = (('a'*1000)*4000) | trim(('b'*1000)*4000 ~ 'a') %}",
        "{% set s = [('a'*1000)*4000] | map('trim', ('b'*1000)*4000 ~ 'a') | list %}",
        "{% set l = range(1000) | sort(attribute=('a,'*1000)*500) %}",
        "{% set l = ('a'*1000) | list | map(attribute=('0.'*1000)*1000) | list %}",
        "{% set l = ('a'*1000) | list | groupby(('0.'*1000)*1000) %}",
        "{% set l = ('a'*1000) | join(',', ('0.'*1000)*1000) %}",
        &on_a_list("s = l | upper"),
        &on_a_list("s = l | trim"),
        &on_a_list("s = l | safe"),
        &on_a_list("s = l is startingwith 'a'"),
        &on_a_list("s = [l] | select('startingwith', 'a') | list"),
        &on_a_list("s = 'x'.startswith(l)"),
        &on_a_list("s = 'x'.endswith(l)"),
        &on_a_list("s = {'a': 1}[l]"),
        &on_a_list("s = {'a': 1}.get(l)"),
        &on_a_list("s = {'a': 1} | attr(l)"),
        &on_a_list("s = l | reverse | last"),
        &on_a_list("s = range(100000) | last"),
        &on_a_list("s = l | indent"),
        &on_a_list("s = 'a' | replace(l, 'b')"),
        &on_a_list("s = ('\\n' * 100000).splitlines()"),
        &on_a_list("l = l[1:]"),
        &on_a_list("l = l * 1"),
        "{% set ns = namespace(l=[]) %}{% for i in range(99999) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l }}",
        "{% set ns = namespace(l=[]) %}{% for i in range(99999) %}{% set ns.l = ns.l | batch(1) | list %}{% endfor %}",
        "{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}",
        "{% set ns = namespace() %}{% set ns.x = [ns] %}{{ ns == ns }}{{ ns }}",
        "{% set a = namespace() %}{% set b = namespace(a=a) %}{% set a.b = [b] %}{{ a }}",
    ];
    for source in hostile {
        ChatTemplate::from_source(source).unwrap(); // it is rendering that must be stopped
        let stopped = render(source);
        assert!(
            stopped.is_err(),
            "{source}: {} bytes",
            stopped.unwrap().len()
        );
    }
}

#[test]
fn lists_made_step_by_step_stay_flat() {
    let steps = |list: &str, step: &str, count: u32| {
        format!(
            "{{% set ns = namespace(l={list}) %}}{{% for i in range({count}) %}}{{% set ns.l = {step} %}}{{% endfor %}}{{% for x in ns.l %}}{{{{ x }}}}{{% endfor %}}"
        )
    };
    for (list, step, count, expected) in [
        ("[]", "ns.l + ns.l", 60, ""),
        ("[]", "[] + ns.l * 1000", 60, ""),
        ("[1, 2]", "ns.l + []", 20_000, "12"),
        ("[1, 2]", "ns.l[0:]", 20_000, "12"),
        ("[1, 2]", "ns.l * 1", 20_000, "12"),
        ("[1, 2]", "ns.l | reverse", 20_000, "12"),
        ("{'a': 1}.keys()", "ns.l + []", 20_000, "a"),
        ("(1, 2)", "ns.l[0:] + ()", 20_000, "12"),
    ] {
        let source = steps(list, step, count);
        assert_eq!(render(&source).unwrap(), expected, "{source}");
    }
}

#[test]
fn hostile_sources_are_refused() {
    for source in [
        &"{{ 1 }}".repeat(100_000),
        &format!("{{{{ {}1{} }}}}", "(".repeat(10_000), ")".repeat(10_000)),
        &format!("{{{{ {}1 }}}}", "-".repeat(10_000)),
        &format!("{{{{ {}1 }}}}", "not ".repeat(10_000)),
        &"{% if 1 %}".repeat(5_000),
        &format!("{{{{ 1{} }}}}", " + 1".repeat(60_000)),
        &format!("{{{{ x{} }}}}", "[0]".repeat(60_000)),
        &format!("{{{{ x{} }}}}", "|e".repeat(60_000)),
        &format!("{{% if 0 %}}{}{{% endif %}}", "{% elif 0 %}".repeat(10_000)),
        &"{% generation %}".repeat(10_000),
        &format!("{}%}}", "{%".repeat(131_000)),
        &format!("{}{}%}}", "{%".repeat(60_000), " -".repeat(60_000)),
    ] {
        assert!(render(source).is_err(), "{}", &source[..20]);
    }
    // The deepest that pass need no deep stack.
    for (open, close) in [
        ("-", ""),
        ("not ", ""),
        ("1 + ", ""),
        ("x if x else ", ""),
        ("[", "]"),
        ("(", ")"),
    ] {
        for count in [100, 300, 490, 990] {
            let _ = render(&format!(
                "{{{{ {}1{} }}}}",
                open.repeat(count),
                close.repeat(count)
            ));
        }
    }
    for step in [" + 1", "|e", "[0]", ".a", "(1)", " and 1", " < 1"] {
        let _ = render(&format!("{{{{ 1{} }}}}", step.repeat(490)));
    }
    let _ = render(&format!(
        "{{% if 0 %}}{}{{% endif %}}",
        "{% elif 0 %}".repeat(199)
    ));
    for source in [
        "{{",
        "{% for %}",
        "{% include 'x' %}",
        "{{ range(3) | chain([1]) }}",
        "{{ debug() }}",
        "{{ x(*y) }}",
    ] {
        assert!(
            matches!(render(source), Err(TextError::Template { .. })),
            "{source}"
        );
    }
}

#[test]
fn a_blank_template_counts_as_none() {
    let file = |template: &str| {
        let mut writer = GgufWriter::new();
        let tokens = EncodedValue::strings(["<unk>", "<|im_start|>", "<|im_end|>"]);
        let tool_use = EncodedValue::strings(["tool_use"]);
        for (key, value) in [
            ("tokenizer.ggml.model", "llama".into()),
            ("tokenizer.ggml.tokens", tokens),
            ("tokenizer.chat_template", template.into()),
            ("tokenizer.chat_templates", tool_use),
            ("tokenizer.chat_template.tool_use", template.into()),
        ] {
            writer.set(key, value).unwrap();
        }
        let bytes = writer.begin(Vec::new(), "test").unwrap().finish().unwrap();
        Checkpoint::from_bytes(bytes, "test").unwrap()
    };
    for (written, default, names) in [
        ("", CHATML, &["default"][..]),
        (" \n", CHATML, &["default"]),
        ("hi", "hi", &["default", "tool_use"]),
    ] {
        let file = file(written);
        let tokenizer = Tokenizer::from_metadata(file.metadata()).unwrap();
        let template = ChatTemplate::from_metadata(file.metadata(), &tokenizer).unwrap();
        assert_eq!(template.source("default"), Some(default));
        assert_eq!(template.is_fallback(), default == CHATML);
        assert!(template.names().eq(names.iter().copied()));
    }
}

#[test]
fn generation_tags_have_no_effect() {
    for (source, expected) in [
        ("{%- generation %}a{% endgeneration -%} b", "ab"),
        ("{%generation%}a{%endgeneration%}", "a"),
        (
            "{{ '{% generation' }}{% generation %}a{%+ endgeneration %}",
            "{% generationa",
        ),
        ("{% set generation = 1 %}{{ generation }} %}", "1 %}"),
    ] {
        assert_eq!(render(source).unwrap(), expected, "{source}");
    }
}

#[test]
fn exceptions_carry_the_words_of_the_template() {
    let refused = render("{{ raise_exception('no ' ~ messages[0].role) }}");
    assert!(matches!(refused, Err(TextError::Refused { message }) if message == "no user"));
}

#[test]
fn backward_slices_are_those_of_python() {
    for (source, expected) in [
        (
            "{{ 'abcde'[::-1] }} {{ 'abcde'[::-2] }} {{ ''[::-1] }}|",
            "edcba eca |",
        ),
        (
            "{{ 'abcde'[3:0:-1] }} {{ 'abcde'[3::-1] }} {{ 'abcde'[:1:-1] }}",
            "dcb dcba edc",
        ),
        ("{{ 'abcde'[-2:-4:-1] }} {{ 'abcde'[9:-9:-3] }}", "dc eb"),
        ("{{ 'abcde'[1:3:-1] }}|{{ 'abcde'[-9::-1] }}|", "||"),
        (
            "{{ [1, 2, 3][::-1] }} {{ [][::-1] }} {{ [1, 2, 3][:0:-1] }}",
            "[3, 2, 1] [] [3, 2]",
        ),
        (
            "{% for m in messages[::-1] %}{{ m.role }} {{ loop.index }};{% endfor %}",
            "assistant 1;user 2;",
        ),
        (
            "{{ 'né漢'[::-1] }}{{ (1, 2)[::-1] | join('-') }}",
            "漢én2-1",
        ),
    ] {
        assert_eq!(render(source).unwrap(), expected, "{source}");
    }
    assert!(render("{{ 1[::-1] }}").is_err());
}

#[test]
fn the_date_is_that_of_now() {
    let template = ChatTemplate::from_source("{{ strftime_now('%d %b %Y, %H:%M') }}").unwrap();
    let now = Some(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000));
    let text = template
        .render(&ChatInput {
            now,
            ..ChatInput::default()
        })
        .unwrap();
    assert_eq!(text, "09 Sep 2001, 01:46");
    assert!(
        render("{{ strftime_now('%Y') }}")
            .unwrap()
            .parse::<u32>()
            .unwrap()
            > 2000
    );
    assert!(render("{{ strftime_now('%!') }}").is_err());
}

#[test]
fn default_templates_render() {
    let messages = [
        Message::new(Role::System, "Be brief."),
        Message::new(Role::User, "Hi"),
        Message::new(Role::Assistant, "Hello"),
        Message::new(Role::User, "Bye"),
    ];
    let mut extra = Map::from_iter([("adds_bos".to_owned(), true.into())]);
    extra.insert("bos_token".to_owned(), "<s>".into());
    extra.insert("eos_token".to_owned(), "</s>".into());
    let input = ChatInput {
        messages: &messages,
        add_generation_prompt: true,
        extra,
        ..ChatInput::default()
    };
    let render = |source| {
        ChatTemplate::from_source(source)
            .unwrap()
            .render(&input)
            .unwrap()
    };
    assert_eq!(
        render(CHATML),
        "<s><|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n\
         <|im_start|>assistant\nHello<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n"
    );
    assert_eq!(
        render(PLAIN),
        "<s>### System:\nBe brief.\n\n### User:\nHi\n\n### Assistant:\nHello</s>\n\n### User:\nBye\n\n### Assistant:\n"
    );
}

#[test]
fn what_a_template_reads_is_known() {
    for (name, tools, thinking) in [
        ("llama3.jinja", true, false),
        ("qwen2_5.jinja", true, false),
        ("qwen3.jinja", false, true),
        ("mistral.jinja", true, false),
        ("gemma2.jinja", false, false),
        ("phi3.jinja", false, false),
        ("chatml.jinja", false, false),
    ] {
        let source = file(name);
        assert_eq!(template_reads(&source, "tools"), tools, "{name}");
        assert_eq!(
            template_reads(&source, "enable_thinking"),
            thinking,
            "{name}"
        );
    }
    for source in [
        "tools",
        "{# tools #}",
        "{{ message.tools }}",
        "{{ message['tools'] }}",
        "{{ my_tools }}",
        "{{",
    ] {
        assert!(!template_reads(source, "tools"), "{source}");
    }
    assert!(template_reads(
        "{% if not tools is defined %}{% endif %}",
        "tools"
    ));
}

#[test]
fn long_chats_stay_within_the_limits() {
    let text = "word ".repeat(200);
    let turns = |i| {
        Message::new(
            if i % 2 == 0 {
                Role::User
            } else {
                Role::Assistant
            },
            text.as_str(),
        )
    };
    let messages: Vec<Message> = (0..2000).map(turns).collect();
    for name in [
        "llama3.jinja",
        "qwen2_5.jinja",
        "qwen3.jinja",
        "mistral.jinja",
        "gemma2.jinja",
        "phi3.jinja",
        "chatml.jinja",
    ] {
        let template = ChatTemplate::from_source(&file(name)).unwrap();
        let extra = Map::from_iter([("eos_token".to_owned(), "</s>".into())]);
        let input = ChatInput {
            messages: &messages,
            extra,
            ..ChatInput::default()
        };
        let rendered = template
            .render(&input)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(rendered.len() > messages.len() * (text.len() - 1), "{name}");
    }
}
