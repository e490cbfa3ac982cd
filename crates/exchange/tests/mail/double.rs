//! A double of a service, in a process of its own, that is told what to do line by line and tells what it hears.

use std::process::Stdio;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::Mutex as AsyncMutex;
use tokio::sync::mpsc;

use crate::patience::{Patience, in_time};

/// A running double; ends with the value.
pub struct Double {
    heard: Arc<Mutex<Vec<Value>>>,
    input: AsyncMutex<ChildStdin>,
    answers: AsyncMutex<mpsc::UnboundedReceiver<Value>>,
    _child: Child,
}

impl Double {
    /// Starts it, and gives what it says first.
    pub async fn start(command: &mut Command) -> (Self, Value) {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .expect("the double starts");
        let mut lines = BufReader::new(child.stdout.take().expect("standard output")).lines();
        let input = AsyncMutex::new(child.stdin.take().expect("standard input"));
        let first = in_time("the double starts", lines.next_line()).await;
        let first = first.expect("a line").expect("a first line");
        let first: Value = serde_json::from_str(&first).expect("JSON");
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (told, answers) = mpsc::unbounded_channel();
        let into = Arc::clone(&heard);
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let mut line: Value = serde_json::from_str(&line).expect("JSON");
                match line.get_mut("heard") {
                    Some(heard) => into.lock().expect("a lock").push(heard.take()),
                    None => drop(told.send(line)),
                }
            }
        });
        let double = Self {
            heard,
            input,
            answers: AsyncMutex::new(answers),
            _child: child,
        };
        (double, first)
    }

    pub async fn ask(&self, what: &Value) -> Value {
        let line = format!("{what}\n");
        let mut input = self.input.lock().await;
        input.write_all(line.as_bytes()).await.expect("written");
        input.flush().await.expect("written");
        drop(input);
        let mut answers = self.answers.lock().await;
        let answer = in_time("the double answers", answers.recv()).await;
        answer.expect("an answer")
    }

    /// The requests that it has heard so far.
    pub fn heard(&self) -> Vec<Value> {
        self.heard.lock().expect("a lock").clone()
    }

    /// Waits until it has heard `count` requests that are meant.
    pub async fn wait_for(&self, count: usize, is_meant: impl Fn(&Value) -> bool) -> Vec<Value> {
        let mut patience = Patience::new();
        loop {
            let mut heard = self.heard();
            heard.retain(&is_meant);
            if heard.len() >= count {
                return heard;
            }
            let words = format!("the double has heard {} of {count}", heard.len());
            patience.wait(&words).await;
        }
    }
}
