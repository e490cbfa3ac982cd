//! A form in the patient's language: its own words from the translations beside them (FHIR's `translation`), the page's
//! from a table. What isn't there in that language stays in the one that it is in, and says so (`lang`), so that a
//! screen reader speaks each as what it is.

use fhir::{Resource, ResourceType};
use maud::{Markup, Render, html};
use serde_json::Value;
use trust::Action;

use crate::context::{Ctx, query};
use crate::error::PageError;

/// FHIR's extension for a text in another language.
const TRANSLATION: &str = "http://hl7.org/fhir/StructureDefinition/translation";
/// What the pages are written in.
pub(crate) const ENGLISH: &str = "en";
/// Languages that the page's own words are there in, as in the rows of [`WORDS`].
const LANGUAGES: [&str; 4] = ["es", "de", "fr", "pt"];

/// The page's own words of a form, and what they are in each of [`LANGUAGES`].
const WORDS: &[(&str, [&str; 4])] = &[
    ("Yes", ["Sí", "Ja", "Oui", "Sim"]),
    ("No", ["No", "Nein", "Non", "Não"]),
    (
        "(may stay empty)",
        [
            "(puede quedar vacío)",
            "(darf leer bleiben)",
            "(peut rester vide)",
            "(pode ficar em branco)",
        ],
    ),
    (
        "Please answer by",
        [
            "Por favor, conteste a más tardar el",
            "Bitte antworten Sie bis zum",
            "Merci de répondre au plus tard le",
            "Por favor, responda até",
        ],
    ),
    (
        "Please answer this question.",
        [
            "Por favor, conteste esta pregunta.",
            "Bitte beantworten Sie diese Frage.",
            "Merci de répondre à cette question.",
            "Por favor, responda a esta pergunta.",
        ],
    ),
    (
        "Please choose yes or no.",
        [
            "Por favor, elija sí o no.",
            "Bitte wählen Sie Ja oder Nein.",
            "Merci de choisir oui ou non.",
            "Por favor, escolha sim ou não.",
        ],
    ),
    (
        "Please give a whole number.",
        [
            "Por favor, escriba un número entero.",
            "Bitte geben Sie eine ganze Zahl an.",
            "Merci de donner un nombre entier.",
            "Por favor, escreva um número inteiro.",
        ],
    ),
    (
        "This number is too small or too large.",
        [
            "Este número es demasiado pequeño o demasiado grande.",
            "Diese Zahl ist zu klein oder zu groß.",
            "Ce nombre est trop petit ou trop grand.",
            "Este número é pequeno demais ou grande demais.",
        ],
    ),
    (
        "Please give a number.",
        [
            "Por favor, escriba un número.",
            "Bitte geben Sie eine Zahl an.",
            "Merci de donner un nombre.",
            "Por favor, escreva um número.",
        ],
    ),
    (
        "Please give a date.",
        [
            "Por favor, escriba una fecha.",
            "Bitte geben Sie ein Datum an.",
            "Merci de donner une date.",
            "Por favor, escreva uma data.",
        ],
    ),
    (
        "Please choose one of the answers.",
        [
            "Por favor, elija una de las respuestas.",
            "Bitte wählen Sie eine der Antworten.",
            "Merci de choisir une des réponses.",
            "Por favor, escolha uma das respostas.",
        ],
    ),
    (
        "This text is too long.",
        [
            "Este texto es demasiado largo.",
            "Dieser Text ist zu lang.",
            "Ce texte est trop long.",
            "Este texto é longo demais.",
        ],
    ),
    (
        "Nothing was sent yet. Please look at:",
        [
            "Todavía no se ha enviado nada. Por favor, revise:",
            "Es wurde noch nichts gesendet. Bitte sehen Sie nach bei:",
            "Rien n'a encore été envoyé. Merci de revoir :",
            "Nada foi enviado ainda. Por favor, verifique:",
        ],
    ),
    (
        "Send my answers",
        [
            "Enviar mis respuestas",
            "Meine Antworten senden",
            "Envoyer mes réponses",
            "Enviar as minhas respostas",
        ],
    ),
    (
        "Your care team sees your answers. If you feel very unwell, do not wait for them: call the emergency number.",
        [
            "Su equipo de atención ve sus respuestas. Si se siente muy mal, no espere: llame al número de emergencias.",
            "Ihr Behandlungsteam sieht Ihre Antworten. Wenn es Ihnen sehr schlecht geht, warten Sie nicht: rufen Sie den Notruf.",
            "Votre équipe de soins voit vos réponses. Si vous vous sentez très mal, n'attendez pas : appelez le numéro d'urgence.",
            "A sua equipa de cuidados vê as suas respostas. Se se sentir muito mal, não espere: ligue para o número de emergência.",
        ],
    ),
];

/// Words, and the language that they are in where it isn't the page's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Said<'a> {
    pub(crate) words: &'a str,
    pub(crate) lang: Option<&'a str>,
}

impl Render for Said<'_> {
    fn render(&self) -> Markup {
        html! {
            @if let Some(lang) = self.lang { span lang=(lang) { (self.words) } }
            @else { (self.words) }
        }
    }
}

/// Which language something is shown in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tongue {
    /// What it is written in, as it says.
    own: Option<String>,
    /// Another that the patient prefers, as the translations have it.
    other: Option<String>,
}

/// The languages that a text has translations in, with these.
fn translations<'a>(object: &'a Value, name: &str) -> Vec<(&'a str, &'a str)> {
    let all = object[format!("_{name}")]["extension"].as_array();
    let all = all.into_iter().flatten();
    all.filter(|one| one["url"] == TRANSLATION)
        .filter_map(|one| {
            let parts = one["extension"].as_array()?;
            let part = |url: &str| parts.iter().find(|part| part["url"] == url);
            let lang = part("lang")?["valueCode"].as_str()?;
            let content = part("content")?;
            let content = [&content["valueString"], &content["valueMarkdown"]];
            Some((lang, content.into_iter().find_map(Value::as_str)?))
        })
        .collect()
}

/// Every language that something in a value has a translation in.
fn languages<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let text = name.strip_prefix('_');
                let here = text.map(|name| translations(value, name));
                found.extend(here.unwrap_or_default().into_iter().map(|(lang, _)| lang));
                languages(member, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| languages(item, found)),
        _ => {}
    }
}

/// The patient whose page it is, for the languages that they prefer.
pub(crate) async fn person(ctx: &Ctx, patient: &str) -> Result<Option<Resource>, PageError> {
    let permit = ctx.permit(Action::Search, None, Some(patient)).await?;
    let own = query(ResourceType::Patient, &[("_id", patient)], 1)?;
    let page = ctx.vault().search(&permit, &own, None).await?;
    Ok(page.rows.into_iter().next().map(|row| row.resource))
}

impl Tongue {
    /// How something is shown to a patient: in the language that they prefer, where it has words in that.
    pub(crate) fn of(patient: Option<&Resource>, shown: &Resource) -> Self {
        let own = shown.text_at(&["language"]).map(str::to_owned);
        let mut others = Vec::new();
        languages(shown.as_value(), &mut others);
        let written_in = own.as_deref().unwrap_or(ENGLISH);
        let other = patient
            .and_then(|patient| journey::preferred_language(patient, written_in, &others))
            .map(str::to_owned);
        Self { own, other }
    }

    /// The same of a form, whose patient is read only where there is something to choose.
    pub(crate) async fn of_form(
        ctx: &Ctx,
        patient: &str,
        form: &Resource,
    ) -> Result<Self, PageError> {
        let mut others = Vec::new();
        languages(form.as_value(), &mut others);
        let patient = match others.first() {
            Some(_) => person(ctx, patient).await?,
            None => None,
        };
        Ok(Self::of(patient.as_ref(), form))
    }

    /// A text of an object.
    pub(crate) fn said<'a>(&'a self, object: &'a Value, name: &str) -> Option<Said<'a>> {
        let other = self.other.as_deref();
        let found = other.and_then(|other| {
            let all = translations(object, name).into_iter();
            let mut all = all.filter(|(lang, _)| *lang == other);
            all.next()
        });
        if let Some((lang, words)) = found {
            return Some(Said {
                words,
                lang: besides_english(lang),
            });
        }
        let words = object[name].as_str()?;
        let lang = self.own.as_deref().and_then(besides_english);
        Some(Said { words, lang })
    }

    /// Words of the page itself, given in English.
    pub(crate) fn page<'a>(&'a self, english: &'a str) -> Said<'a> {
        let found = self.shown().and_then(|shown| {
            let language = shown.split('-').next()?;
            let at = LANGUAGES.iter().position(|known| *known == language)?;
            let mut rows = WORDS.iter();
            let (_, words) = rows.find(|(key, _)| *key == english)?;
            Some(Said {
                words: words[at],
                lang: Some(LANGUAGES[at]),
            })
        });
        found.unwrap_or(Said {
            words: english,
            lang: None,
        })
    }

    /// The language that it is shown in, where that is said and isn't English.
    pub(crate) fn shown(&self) -> Option<&str> {
        let shown = self.other.as_deref().or(self.own.as_deref());
        shown.and_then(besides_english)
    }
}

/// A language, where it isn't that of the page.
fn besides_english(lang: &str) -> Option<&str> {
    let is_english = lang == ENGLISH || lang.starts_with("en-");
    (!is_english).then_some(lang)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn text(name: &str, words: &str, said: &[(&str, &str)]) -> Value {
        let said: Vec<Value> = (said.iter())
            .map(|(lang, words)| json!({"url": TRANSLATION, "extension": [{"url": "lang", "valueCode": lang}, {"url": "content", "valueString": words}]}))
            .collect();
        json!({name: words, format!("_{name}"): {"extension": said}})
    }

    fn speaks(code: &str) -> Resource {
        let patient = json!({"resourceType": "Patient", "communication": [{"language": {"coding": [{"code": code}]}}]});
        Resource::from_value(patient).unwrap()
    }

    fn form(language: Option<&str>) -> Resource {
        let mut form = text(
            "title",
            "How are you?",
            &[("es", "¿Cómo está?"), ("pt-BR", "Como está?")],
        );
        form["resourceType"] = json!("Questionnaire");
        form["item"] = json!([text("text", "Well?", &[("es", "¿Bien?")])]);
        if let Some(language) = language {
            form["language"] = json!(language);
        }
        Resource::from_value(form).unwrap()
    }

    #[test]
    fn each_text_is_in_the_patients_language_or_says_which_it_is_in() {
        type Row = (
            &'static str,
            Option<&'static str>,
            [(&'static str, Option<&'static str>); 3],
        );
        let table: [Row; 6] = [
            (
                "es-MX",
                None,
                [
                    ("¿Cómo está?", Some("es")),
                    ("¿Bien?", Some("es")),
                    ("Sí", Some("es")),
                ],
            ),
            // The question isn't there, and stays in the form's own.
            (
                "pt",
                None,
                [
                    ("Como está?", Some("pt-BR")),
                    ("Well?", None),
                    ("Sim", Some("pt")),
                ],
            ),
            (
                "pt",
                Some("nl"),
                [
                    ("Como está?", Some("pt-BR")),
                    ("Well?", Some("nl")),
                    ("Sim", Some("pt")),
                ],
            ),
            (
                "en",
                None,
                [("How are you?", None), ("Well?", None), ("Yes", None)],
            ),
            (
                "fr",
                Some("de"),
                [
                    ("How are you?", Some("de")),
                    ("Well?", Some("de")),
                    ("Ja", Some("de")),
                ],
            ),
            // The page has no Dutch.
            (
                "fr",
                Some("nl"),
                [
                    ("How are you?", Some("nl")),
                    ("Well?", Some("nl")),
                    ("Yes", None),
                ],
            ),
        ];
        for (patient, language, expected) in table {
            let form = form(language);
            let tongue = Tongue::of(Some(&speaks(patient)), &form);
            let said = |object: &Value, name: &str| {
                let said = tongue.said(object, name).unwrap();
                (said.words.to_owned(), said.lang.map(str::to_owned))
            };
            let page = tongue.page("Yes");
            let found = [
                said(form.as_value(), "title"),
                said(&form.as_value()["item"][0], "text"),
                (page.words.to_owned(), page.lang.map(str::to_owned)),
            ];
            let expected =
                expected.map(|(words, lang)| (words.to_owned(), lang.map(str::to_owned)));
            assert_eq!(found, expected, "{patient} {language:?}");
        }
        assert_eq!(Tongue::of(None, &form(None)).shown(), None);
    }

    #[test]
    fn every_row_has_words_and_stands_once() {
        for (index, (english, words)) in WORDS.iter().enumerate() {
            assert!(
                words.iter().all(|words| !words.trim().is_empty()),
                "{english}"
            );
            assert!(
                WORDS[..index].iter().all(|(other, _)| other != english),
                "{english}"
            );
        }
    }

    #[test]
    fn what_is_in_another_language_says_so() {
        let spanish = Said {
            words: "¿<b>?",
            lang: Some("es"),
        };
        assert_eq!(
            html! { (spanish) }.into_string(),
            "<span lang=\"es\">¿&lt;b&gt;?</span>"
        );
        let english = Said {
            words: "Yes",
            lang: None,
        };
        assert_eq!(html! { (english) }.into_string(), "Yes");
    }
}
