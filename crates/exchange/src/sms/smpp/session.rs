//! One SMPP 3.4 session: a connection, what waits for its answer, and what the other side asks.

use std::collections::HashMap;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::SmppOptions;
use super::pdu::{self, Brought, Command, id, status};

/// Asks that wait to be written.
const ASKS_MAX: usize = 64;
/// What was brought of each sort and waits to be taken.
const BROUGHT_MAX: usize = 256;
/// Octets that wait to be written before nothing more is asked, and before the other side is taken for gone.
const OUT_OCTETS_MAX: usize = 64 * 1024;
const OUT_OCTETS_LAST: usize = 1024 * 1024;
/// How long an answer is waited for that a message is put off without, and how many are.
const LATE_FOR: Duration = Duration::from_secs(600);
const LATE_MAX: usize = 10_000;
/// The last number of a command (3.2).
const SEQUENCE_MAX: u32 = 0x7FFF_FFFF;

/// What the other side says to a request.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u32,
    pub(super) body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Silent {
    /// It was not sent.
    Unsent,
    /// It may have been heard.
    Unknown,
}

type Tell = oneshot::Sender<Result<Answer, Silent>>;

/// That a message was taken, said when nobody waited for it any more.
pub(super) struct Late {
    pub(super) sequence: u32,
    pub(super) communication: String,
    /// What the other side calls it.
    pub(super) said: Option<String>,
}

/// Somebody who waits for an answer.
struct Waiting {
    /// The command that answers.
    answer: u32,
    tell: Tell,
    since: Instant,
    /// The message that was handed over, if it was one.
    communication: Option<String>,
}

enum Ask {
    Request(u32, Vec<u8>, Tell, Option<String>),
    Answer(Command),
}

/// What the other side brings, and by which number and command; it has its answer once it is written down.
pub(super) struct Bringing {
    pub(super) sequence: u32,
    id: u32,
    pub(super) what: Brought,
}

/// Speaks in a session.
#[derive(Clone)]
pub(super) struct Voice {
    asks: mpsc::Sender<Ask>,
    patience: Duration,
}

impl Voice {
    /// Asks, and waits for the answer.
    pub(super) async fn ask(&self, id: u32, body: Vec<u8>) -> Result<Answer, Silent> {
        self.ask_of(id, body, None).await
    }

    /// Hands a message over, and waits for the answer. One that comes later is a [`Late`].
    pub(super) async fn submit(
        &self,
        body: Vec<u8>,
        communication: &str,
    ) -> Result<Answer, Silent> {
        let communication = Some(communication.to_owned());
        self.ask_of(id::SUBMIT, body, communication).await
    }

    async fn ask_of(
        &self,
        id: u32,
        body: Vec<u8>,
        communication: Option<String>,
    ) -> Result<Answer, Silent> {
        let until = Instant::now() + self.patience;
        let (tell, told) = oneshot::channel();
        let asked = self.asks.send(Ask::Request(id, body, tell, communication));
        match tokio::time::timeout_at(until, asked).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return Err(Silent::Unsent),
        }
        match tokio::time::timeout_at(until, told).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(Silent::Unknown),
        }
    }

    /// Answers what was brought. Where the session is over, it will be brought again.
    pub(super) async fn answer(&self, bringing: &Bringing, status: u32) {
        let answer = answer_to(bringing.id, bringing.sequence, status);
        let _ = self.asks.send(Ask::Answer(answer)).await;
    }
}

/// The answer to what was brought: it has a name of a message, which stays empty.
fn answer_to(id: u32, sequence: u32, status: u32) -> Command {
    let body = if status == status::OK {
        vec![0]
    } else {
        Vec::new()
    };
    Command {
        id: id | id::RESPONSE,
        status,
        sequence,
        body,
    }
}

/// A session that is bound. It ends when this is dropped, or with its word to the other side once nobody speaks in it any
/// more.
pub(super) struct Session {
    pub(super) voice: Voice,
    pub(super) texts: mpsc::Receiver<Bringing>,
    pub(super) receipts: mpsc::Receiver<Bringing>,
    pub(super) late: mpsc::UnboundedReceiver<Late>,
    pub(super) runs: JoinSet<()>,
}

/// Why there is no session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Closed {
    /// The other side could not be reached, or said nothing.
    Unreachable(&'static str),
    /// It doesn't let us in.
    Refused(String),
}

/// Binds as a transceiver.
pub(super) async fn open<S>(stream: S, options: &SmppOptions) -> Result<Session, Closed>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (asks, asked) = mpsc::channel(ASKS_MAX);
    let (bring_text, texts) = mpsc::channel(BROUGHT_MAX);
    let (bring_receipt, receipts) = mpsc::channel(BROUGHT_MAX);
    // As many as messages wait, at most.
    let (tell_late, late) = mpsc::unbounded_channel();
    let patience = Duration::from_millis(options.timeout_ms);
    let state = State {
        waiting: HashMap::new(),
        sequence: 0,
        out: Vec::new(),
        bring_text,
        bring_receipt,
        tell_late,
        is_over: false,
    };
    let mut runs = JoinSet::new();
    let times = (Duration::from_millis(options.enquire_ms), patience);
    runs.spawn(run(stream, state, asked, times));
    let voice = Voice { asks, patience };
    let bind = pdu::bind(&options.system_id, &options.password, &options.system_type);
    let Some(bind) = bind else {
        return Err(Closed::Refused("what we are is too long for it".to_owned()));
    };
    match voice.ask(id::BIND_TRANSCEIVER, bind).await {
        Ok(answer) if answer.status == status::OK => Ok(Session {
            voice,
            texts,
            receipts,
            late,
            runs,
        }),
        Ok(answer) => Err(Closed::Refused(format!(
            "it refused the bind ({})",
            words(answer.status)
        ))),
        Err(_) => Err(Closed::Unreachable("it gave no answer to the bind")),
    }
}

/// A status as the specification numbers it.
pub(super) fn words(status: u32) -> String {
    format!("status {status:#010x}")
}

struct State {
    /// What waits for an answer, by the number of the request.
    waiting: HashMap<u32, Waiting>,
    sequence: u32,
    /// What is to be written.
    out: Vec<u8>,
    bring_text: mpsc::Sender<Bringing>,
    bring_receipt: mpsc::Sender<Bringing>,
    tell_late: mpsc::UnboundedSender<Late>,
    /// The other side has said that it ends; what is still to be written goes out.
    is_over: bool,
}

impl State {
    fn write(&mut self, command: &Command) {
        self.out.extend(command.octets());
    }

    fn request(&mut self, id: u32, body: Vec<u8>) -> u32 {
        let sequence = match self.sequence {
            SEQUENCE_MAX.. => 1,
            last => last + 1,
        };
        self.sequence = sequence;
        self.write(&Command {
            id,
            status: status::OK,
            sequence,
            body,
        });
        sequence
    }

    /// Forgets those who wait no longer, but for messages whose answer may still come.
    fn forget(&mut self) {
        let is_full = self.waiting.len() >= LATE_MAX;
        self.waiting.retain(|_, one| {
            let may_come = one.communication.is_some() && one.since.elapsed() < LATE_FOR;
            !one.tell.is_closed() || (may_come && !is_full)
        });
    }

    /// What a command of the other side asks for.
    fn hear(&mut self, command: Command) {
        let Command {
            id,
            status,
            sequence,
            body,
        } = command;
        if id & id::RESPONSE != 0 {
            self.answered(id, status, sequence, body);
            return;
        }
        match id {
            id::DELIVER | id::DATA => {
                let brought = match id {
                    id::DELIVER => Brought::of_deliver(&body),
                    _ => Brought::of_data(&body),
                };
                let status = match brought {
                    Some(what) => {
                        let bring = if what.is_text() {
                            &self.bring_text
                        } else {
                            &self.bring_receipt
                        };
                        let bringing = Bringing { sequence, id, what };
                        if bring.try_send(bringing).is_ok() {
                            return;
                        }
                        // It brings it again.
                        status::NOT_NOW
                    }
                    None => {
                        metrics::counter!("sms_unusable_total").increment(1);
                        tracing::error!(
                            "sms: the provider brought what can't be read; it is told so, and its log has what it was"
                        );
                        status::NEVER
                    }
                };
                self.write(&answer_to(id, sequence, status));
            }
            // It asks for no answer (4.12.1).
            id::ALERT => {}
            id::ENQUIRE | id::UNBIND => {
                self.is_over |= id == id::UNBIND;
                self.write(&Command {
                    id: id | id::RESPONSE,
                    status: status::OK,
                    sequence,
                    body: Vec::new(),
                });
            }
            _ => self.write(&Command {
                id: id::NACK,
                status: status::INVALID_COMMAND,
                sequence,
                body: Vec::new(),
            }),
        }
    }

    fn answered(&mut self, id: u32, status: u32, sequence: u32, body: Vec<u8>) {
        let is_it = |one: &Waiting| id == one.answer || id == id::NACK;
        if !self.waiting.get(&sequence).is_some_and(is_it) {
            // Somebody asked and waits no longer, or nobody did.
            return;
        }
        let Some(waiting) = self.waiting.remove(&sequence) else {
            return;
        };
        // No command says that it is refused and that all is well.
        let status = match (id, status) {
            (id::NACK, status::OK) => status::UNKNOWN_ERROR,
            (_, status) => status,
        };
        let untold = waiting.tell.send(Ok(Answer { status, body }));
        if let (Err(Ok(answer)), Some(communication)) = (untold, waiting.communication)
            && answer.status == status::OK
        {
            let _ = self.tell_late.send(Late {
                sequence,
                communication,
                said: pdu::taken_as(&answer.body),
            });
        }
    }
}

/// Writes some of what is to be written; without anything, sees to it that all before is on its way.
async fn push(writer: &mut (impl AsyncWrite + Unpin), out: &[u8]) -> std::io::Result<usize> {
    if out.is_empty() {
        return writer.flush().await.map(|()| 0);
    }
    match writer.write(out).await? {
        0 => Err(std::io::ErrorKind::WriteZero.into()),
        count => Ok(count),
    }
}

/// Carries a session until it is over: what is read, what is written, and what nobody says for a while.
async fn run<S>(
    stream: S,
    mut state: State,
    mut asked: mpsc::Receiver<Ask>,
    (every, patience): (Duration, Duration),
) where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut read = Vec::new();
    let mut heard = Instant::now();
    let (mut enquired, mut unflushed) = (false, false);
    // Until when the other side may say that it has heard our last word.
    let mut leaves = None;
    loop {
        if state.out.len() > OUT_OCTETS_LAST
            || (state.is_over && state.out.is_empty() && !unflushed)
        {
            break;
        }
        let silence = if enquired { every + patience } else { every };
        let wake = leaves.unwrap_or(heard + silence);
        tokio::select! {
            count = reader.read_buf(&mut read) => {
                let Ok(1..) = count else { break };
                heard = Instant::now();
                enquired = false;
                let garbled = loop {
                    match Command::take(&mut read) {
                        Ok(Some(command)) => {
                            let is_last = command.id == (id::UNBIND | id::RESPONSE);
                            state.is_over |= leaves.is_some() && is_last;
                            state.hear(command);
                        }
                        Ok(None) => break false,
                        Err(_) => break true,
                    }
                };
                // Where the next command begins can't be told.
                if garbled {
                    tracing::warn!("sms: the provider sent what is no command, so the session ends");
                    break;
                }
            }
            done = push(&mut writer, &state.out), if unflushed || !state.out.is_empty() => match done {
                Ok(0) => unflushed = false,
                Ok(count) => {
                    state.out.drain(..count);
                    unflushed = true;
                }
                Err(_) => break,
            },
            ask = asked.recv(), if leaves.is_none() && state.out.len() < OUT_OCTETS_MAX => match ask {
                // Nobody speaks any more.
                None => {
                    leaves = Some(Instant::now() + patience);
                    state.request(id::UNBIND, Vec::new());
                }
                Some(Ask::Answer(command)) => state.write(&command),
                // Nobody waits for it any more.
                Some(Ask::Request(_, _, tell, _)) if tell.is_closed() => {}
                Some(Ask::Request(id, body, tell, communication)) => {
                    state.forget();
                    let sequence = state.request(id, body);
                    let answer = id | id::RESPONSE;
                    let since = Instant::now();
                    let waiting = Waiting { answer, tell, since, communication };
                    state.waiting.insert(sequence, waiting);
                }
            },
            () = sleep_until(wake) => {
                if leaves.is_some() {
                    break;
                }
                if enquired {
                    tracing::warn!("sms: the provider does not say whether it is there, so the session ends");
                    break;
                }
                enquired = true;
                state.request(id::ENQUIRE, Vec::new());
            }
        }
    }
    // What was not written was not sent.
    asked.close();
    while let Ok(ask) = asked.try_recv() {
        if let Ask::Request(_, _, tell, _) = ask {
            let _ = tell.send(Err(Silent::Unsent));
        }
    }
    let _ = timeout(patience, writer.shutdown()).await;
}
