//! A form that is answered by replying to its text message: what that message says, what the checker asks of it, and what
//! a reply does that is no answer.

use super::{Answer, Ask, Question};
use crate::check::Check;
use crate::decode::build::{Parts, template};
use crate::definition::{Channel, Step, Target};
use crate::engine::{Engine, Fact};
use crate::spec::TRANSLATIONS;
use crate::state::What;
use crate::template::Template;
use crate::yaml::{Node, Place};
use trust::sms::{Word, answer};

/// The form can't be answered so.
const UNFIT: &str = "J069";
/// What can't be asked or understood so would be nobody's.
const NOBODYS: &str = "J066";
/// Any number would be believed.
const UNBOUNDED: &str = "J084";
/// The longest words of an option: they stand in the message, each with its number.
const OPTION_CHARS_MAX: usize = 40;

/// That a form is answered by replying to its text message.
#[derive(Debug)]
pub(super) struct Reply {
    /// What is said to a reply that is no answer.
    again: Template,
    /// Where somebody reads such.
    unclear: Option<Target>,
}

pub(super) fn decode(parts: &Parts<'_>) -> Option<Option<Reply>> {
    let Some(node) = parts.body.get("reply") else {
        return Some(None);
    };
    Some(Some(Reply {
        again: template(node.get("again")?)?,
        unclear: parts.way("unclear"),
    }))
}

impl Reply {
    pub(super) fn unclear(&self) -> Option<&Target> {
        self.unclear.as_ref()
    }
}

/// A text message that is answered by replying to it, in one language.
#[derive(Debug)]
pub(crate) struct ByReply<'a> {
    /// What follows its words: the options, each with its number.
    pub(crate) options: String,
    /// What is said to a reply that is no answer.
    pub(crate) again: &'a Template,
    /// Whether it is another language than the journey's own.
    pub(crate) is_translated: bool,
}

impl Question {
    /// The options with their numbers, each on a line, in words of this or another language.
    fn numbered(&self, said: &[(String, String)]) -> String {
        let lines = self.options.iter().zip(1..).map(|((code, own), number)| {
            let mut said = said.iter();
            let other = said.find(|(other, _)| other == code);
            let words = other.map_or(own, |(_, words)| words);
            format!("\n{number} = {words}")
        });
        lines.collect()
    }
}

impl Ask {
    /// What follows the words of the text message in a language, what is said to a reply that is no answer, and whether
    /// it comes in that language. Where it doesn't it is the journey's own.
    pub(super) fn said_by_reply(&self, language: &str) -> Option<ByReply<'_>> {
        let reply = self.reply.as_ref()?;
        let [question] = self.questions.as_slice() else {
            return None;
        };
        let translations = self.invitation.translations.iter();
        // Where the text message isn't there in a language, it comes in the journey's own as a whole.
        let mut other = translations.filter(|one| one.language == language && one.sms.is_some());
        let Some(other) = other.next() else {
            return Some(ByReply {
                options: question.numbered(&[]),
                again: &reply.again,
                is_translated: false,
            });
        };
        let mut asked = other.questions.iter();
        let asked = asked.find(|asked| asked.id == question.id);
        let options = asked.map_or(&[][..], |asked| &asked.options);
        let again = other.again.as_ref().unwrap_or(&reply.again);
        Some(ByReply {
            options: question.numbered(options),
            again,
            is_translated: true,
        })
    }

    /// Somebody has to read what a patient wrote.
    pub(super) fn spawn_unclear(&self, engine: &mut Engine<'_>, step: &Step) {
        let unclear = self.reply.as_ref().and_then(Reply::unclear);
        let Some(target) = unclear else { return };
        let to = engine.names(target);
        engine.trail(&step.id, What::Reply { to }, None);
        engine.spawn(target);
    }

    pub(super) fn check_reply(&self, check: &mut Check<'_, '_>, step: &Step) {
        let Some(reply) = &self.reply else {
            let way = check.node(step, &["unclear"]).map(|node| node.place);
            if let Some(place) = way {
                let words = format!(
                    "`{}` is not answered by replying to a text message, so `unclear` is never gone; add `reply` to the form, or leave it out",
                    step.id
                );
                check.findings.error(UNFIT, place, words);
            }
            return;
        };
        let place = check.at(step, &["ask", "reply"]);
        if reply.unclear.is_none() {
            let words = format!(
                "`{}` has no `unclear`: say who reads what a patient writes that is no answer",
                step.id
            );
            check.findings.error(NOBODYS, place, words);
        }
        self.check_channels(check, step, place);
        let [question] = self.questions.as_slice() else {
            let words = format!(
                "a form that is answered by reply has one question, and `{}` has {}: ask the others in steps of their own, one after the other",
                step.id,
                self.questions.len()
            );
            check.findings.error(UNFIT, place, words);
            return;
        };
        self.check_question(check, step, question);
    }

    fn check_channels(&self, check: &mut Check<'_, '_>, step: &Step, place: Place) {
        let message = &self.invitation;
        let channels = &message.channels;
        let at = channels.iter().position(|one| *one == Channel::Sms);
        let words = match at {
            None => Some((
                UNFIT,
                "a form that is answered by reply goes by `sms`; add it to `channels`",
            )),
            Some(at) if at + 1 == channels.len() => Some((
                NOBODYS,
                "whoever can't be asked by text message (a telephone that is somebody else's too, another question that is open there) would not hear of it; add a channel behind `sms`, as `portal`",
            )),
            Some(_) => None,
        };
        if let Some((code, words)) = words {
            let place = match check.node(step, &["ask", "channels"]) {
                Some(node) => node.place,
                None => place,
            };
            check.findings.error(code, place, words);
        }
        if message.sms.is_none() {
            let words = "the words of the text message are the question; add `sms: {words: …}`";
            check.findings.error(UNFIT, place, words);
        }
    }

    fn check_question(&self, check: &mut Check<'_, '_>, step: &Step, question: &Question) {
        let (id, place) = (&question.id, question_place(check, step));
        match question.answer {
            Answer::Text | Answer::Date => {
                let words = format!(
                    "question `{id}` can't be answered by reply: that goes with `yes-no`, `whole-number`, `number` and `choice`"
                );
                check.findings.error(UNFIT, place, words);
            }
            Answer::WholeNumber | Answer::Number => {
                if question.least.is_none() || question.most.is_none() {
                    let words = format!(
                        "question `{id}` needs `least` and `most`: any number that somebody mistypes would be believed"
                    );
                    check.findings.error(UNBOUNDED, place, words);
                }
            }
            Answer::YesNo => self.check_says_how(check, step),
            Answer::Choice => self.check_options(check, step, question),
        }
    }

    /// Whoever reads the text message has to know what to send, in each language.
    fn check_says_how(&self, check: &mut Check<'_, '_>, step: &Step) {
        let own = check.definition.language.clone();
        let words = |node: &Node| node.get("sms")?.get("words").cloned();
        let form = check.node(step, &["ask"]);
        let mut all: Vec<(String, Node)> = Vec::new();
        all.extend(form.and_then(words).map(|words| (own, words)));
        let translations = form.and_then(|form| form.get(TRANSLATIONS));
        for (key, node) in translations.map(Node::members).unwrap_or_default() {
            all.extend(words(node).map(|words| (key.name.clone(), words)));
        }
        for (language, words) in all {
            let said = if !answer::knows(&language) {
                format!(
                    "what means yes and no in `{language}` isn't known here, so this question can't be answered by reply in it; ask with `choice`, whose options have numbers"
                )
            } else if words
                .text()
                .is_some_and(|text| !answer::says_how(text, &language))
            {
                format!(
                    "these words don't say what to reply: they name no word for yes and one for no of `{language}` that are understood, as `Reply YES or NO` does in English"
                )
            } else {
                continue;
            };
            check.findings.error(UNFIT, words.place, said);
        }
    }

    /// The words of options go out with their numbers.
    fn check_options(&self, check: &mut Check<'_, '_>, step: &Step, question: &Question) {
        let (id, place) = (&question.id, question_place(check, step));
        if question.options.len() > answer::OPTIONS_MAX {
            let words = format!(
                "question `{id}` has {} options, and a reply is the number of one: {} at most",
                question.options.len(),
                answer::OPTIONS_MAX
            );
            check.findings.error(UNFIT, place, words);
        }
        let own = check.definition.language.clone();
        let mut all: Vec<(&str, &(String, String))> = Vec::new();
        all.extend(question.options.iter().map(|option| (own.as_str(), option)));
        for other in &self.invitation.translations {
            let asked = other.questions.iter().filter(|asked| asked.id == *id);
            let options = asked.flat_map(|asked| &asked.options);
            all.extend(options.map(|option| (other.language.as_str(), option)));
        }
        for (place_of, (language, (code, words))) in all.iter().enumerate() {
            check.open_words_of(place, words, language);
            if words.chars().count() > OPTION_CHARS_MAX {
                let said = format!(
                    "option `{code}` of question `{id}` has more than {OPTION_CHARS_MAX} characters, and stands in the text message: shorten it"
                );
                check.findings.error(UNFIT, place, said);
            }
            if let Some(said) = heard_otherwise(code, id, words) {
                check.findings.error(UNFIT, place, said);
            }
            if words.contains(['{', '}']) {
                let said = format!(
                    "option `{code}` of question `{id}` has a brace in its words, and no variable is put in there; leave it out"
                );
                check.findings.error(UNFIT, place, said);
            }
            if answer::is_number(words) {
                let said = format!(
                    "option `{code}` of question `{id}` is called `{words}`, which would be read as the number of an option; say it in words"
                );
                check.findings.error(UNFIT, place, said);
            }
            let mut earlier = all[..place_of].iter();
            let is_same = |(_, (other, said)): &&(&str, &(String, String))| {
                other != code && answer::same_words(said, words)
            };
            if let Some((_, (other, _))) = earlier.find(is_same) {
                let said = format!(
                    "options `{other}` and `{code}` of question `{id}` have the same words, so a reply could be either"
                );
                check.findings.error(UNFIT, place, said);
            }
        }
    }
}

/// What is said of an option that whoever replies with its words would not choose.
fn heard_otherwise(code: &str, question: &str, words: &str) -> Option<String> {
    // Who replies with an option's words may leave out its marks.
    let bare = words.replace('?', " ");
    let heard = match trust::sms::word(words) {
        Word::Other => trust::sms::word(&bare),
        heard => heard,
    };
    let does = match heard {
        Word::Stop => "ends all text messages to whoever sends it",
        Word::Start => "is heard as the wish for text messages again",
        Word::Help => "is heard as the question whom to call",
        Word::Other => return None,
    };
    Some(format!(
        "option `{code}` of question `{question}` is called `{words}`, which {does}, and is no answer; say it in other words"
    ))
}

fn question_place(check: &Check<'_, '_>, step: &Step) -> Place {
    let questions = check.node(step, &["ask", "questions"]);
    let first = questions.and_then(|node| node.items().first());
    first.map_or(step.place, |node| node.place)
}

/// Whether a fact is a reply that somebody has to read.
pub(super) fn is_reply(fact: &Fact) -> bool {
    matches!(fact, Fact::Reply { .. })
}
