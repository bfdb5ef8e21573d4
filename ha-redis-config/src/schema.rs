//! The JSON Schema of configuration files, for editors.

use ha_redis_core::config::{Setting, SettingKind};
use serde_json::{Map, Value, json};

use crate::layer::may_be_empty;

/// Returns the JSON Schema (draft 7) of configuration files. It is stricter than the loader where a file reads better
/// for it: switches are `true` and `false`, and numbers have no quotes.
///
/// The repository has it as the file `ha-redis-config/redis-config.schema.json`.
pub fn json_schema() -> String {
    let settings: Map<String, Value> =
        Setting::all().map(|setting| (setting.name().to_owned(), of_setting(setting))).collect();
    let references = |prefix: &str| {
        let url = [("url".to_owned(), json!({ "$ref": format!("{prefix}url") }))];
        let names = Setting::all().map(Setting::name);
        let all = names.map(|name| (name.to_owned(), json!({ "$ref": format!("{prefix}{name}") })));
        url.into_iter().chain(all).collect::<Map<_, _>>()
    };
    let mut definitions = settings;
    definitions.insert("url".into(), url());
    definitions.insert(
        "configuration".into(),
        json!({
            "type": "object",
            "description": "A configuration of its own, on top of what all share.",
            "properties": references("#/definitions/"),
            "additionalProperties": false,
        }),
    );
    let schema = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "ha-redis",
        "description": "The settings that all configurations share, and named configurations.",
        "type": "object",
        "properties": references("#/definitions/"),
        "additionalProperties": { "$ref": "#/definitions/configuration" },
        "definitions": definitions,
    });
    format!("{schema:#}\n")
}

fn url() -> Value {
    json!({
        "description": "How the server is reached, and any other settings, as a URL. The settings next to it refine it.",
        "type": "string",
        "minLength": 1,
    })
}

fn of_setting(setting: &Setting) -> Value {
    let mut forms = of_kind(setting.kind());
    if may_be_empty(setting) {
        forms.push(json!({ "const": "" }));
    }
    forms.push(json!({ "type": "null" }));
    let mut schema = json!({ "anyOf": forms });
    schema["description"] = format!("{} Allowed: {}.", setting.description(), setting.allowed()).into();
    if let Some(default) = setting.default_text() {
        schema["default"] = match setting.kind() {
            SettingKind::Number { .. } | SettingKind::Switch => {
                serde_json::from_str(&default).unwrap_or(Value::String(default))
            }
            _ => default.into(),
        };
    }
    schema
}

/// Returns the forms that a value may have.
fn of_kind(kind: SettingKind) -> Vec<Value> {
    let text = json!({ "type": "string", "minLength": 1 });
    match kind {
        SettingKind::Number { min, max } => {
            vec![json!({ "type": "integer", "minimum": min, "maximum": max })]
        }
        SettingKind::Duration { zero } => {
            let bound = if zero { "minimum" } else { "exclusiveMinimum" };
            let unit = "^[0-9]+(\\.[0-9]+)?(d|h|m|s|ms|us|ns)?$";
            vec![
                json!({ "type": "number", bound: 0, "maximum": 86400 }),
                json!({ "type": "string", "pattern": unit }),
            ]
        }
        SettingKind::Switch => vec![json!({ "type": "boolean" })],
        SettingKind::Choice(words) => vec![json!({ "enum": words })],
        SettingKind::List => {
            let host_and_port = json!([{ "type": "string" }, { "type": "integer" }]);
            let pair = json!({ "type": "array", "items": host_and_port, "minItems": 2, "maxItems": 2 });
            vec![text.clone(), json!({ "type": "array", "items": { "anyOf": [text, pair] } })]
        }
        SettingKind::Map => {
            vec![text, json!({ "type": "object", "additionalProperties": { "type": "string" } })]
        }
        _ => vec![text],
    }
}
