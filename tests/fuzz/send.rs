//! Sends an input as a client would, step by step.

use std::collections::HashMap;

use arrow_flight::sql::{
    ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult, Any,
    CommandPreparedStatementQuery, CommandStatementQuery, CommandStatementUpdate,
    DoPutPreparedStatementResult, ProstMessageExt, TicketStatementQuery,
};
use arrow_flight::{
    Action, FlightData, FlightDescriptor, FlightInfo, HandshakeResponse, PollInfo, PutResult,
    Ticket,
};
use prost::Message;

use crate::input::{Caller, Input, Way};
use crate::wire::{Reply, Wire, framed};

/// The path prefix of Flight calls.
pub const SERVICE: &str = "/arrow.flight.protocol.FlightService/";

/// The calls that an input makes, with their replies.
#[derive(Default)]
pub struct Exchange {
    /// The replies to its calls, in order.
    pub replies: Vec<Reply>,
    /// The response to GetFlightInfo or PollFlightInfo.
    pub announced: Option<FlightInfo>,
    /// The messages of the last DoGet, if it succeeded.
    pub answer: Option<Vec<FlightData>>,
}

/// A client that sends inputs.
pub struct Sender {
    wire: Wire,
    /// The values of the header `authorization`.
    credentials: HashMap<Caller, String>,
}

impl Sender {
    /// Creates a sender with the values of the header `authorization` for each caller.
    pub fn new(wire: Wire, credentials: impl IntoIterator<Item = (Caller, String)>) -> Self {
        Self {
            wire,
            credentials: credentials.into_iter().collect(),
        }
    }

    /// Exchanges the caller's password for a token, and uses the token from now on.
    pub async fn sign_in(&mut self, caller: &Caller) {
        let credential = self.credential(caller);
        let path = format!("{SERVICE}Handshake");
        let reply = self.wire.send(&path, credential.as_deref(), Vec::new());
        let reply = reply.await;
        let message = reply.messages.first().unwrap();
        let answer = HandshakeResponse::decode(message.as_slice()).unwrap();
        let token = String::from_utf8(answer.payload.to_vec()).unwrap();
        self.credentials
            .insert(caller.clone(), format!("Bearer {token}"));
    }

    /// Sends the input and waits for all replies.
    pub async fn send(&mut self, input: &Input) -> Exchange {
        let mut exchange = Exchange::default();
        match input.way {
            Way::Ask | Way::Poll => {
                let command = query(input);
                self.ask(input, command, &mut exchange).await;
            }
            Way::Schema => {
                let descriptor = FlightDescriptor::new_cmd(query(input));
                self.call(input, "GetSchema", descriptor, &mut exchange)
                    .await;
            }
            Way::Prepare | Way::Fetch => {
                self.prepare(input, &mut exchange).await;
            }
            Way::Update => {
                let command = CommandStatementUpdate {
                    query: input.text.clone(),
                    transaction_id: None,
                };
                let command = command.as_any().encode_to_vec();
                self.put(input, command, &mut exchange).await;
            }
            Way::Call => {
                let messages = input.messages.iter().map(|bytes| bytes.0.as_slice());
                let body = framed(messages);
                self.body(input, &input.text, body, &mut exchange).await;
            }
            Way::Frames => {
                let body = input.messages.iter().flat_map(|bytes| bytes.0.clone());
                let body = body.collect();
                self.body(input, &input.text, body, &mut exchange).await;
            }
            Way::Connection => {
                let bytes = input.messages.iter().flat_map(|bytes| bytes.0.clone());
                self.wire.send_bytes(&bytes.collect::<Vec<_>>()).await;
            }
            Way::File => {
                let bytes = input.messages.iter().flat_map(|bytes| bytes.0.clone());
                let reply = crate::files::take(bytes.collect()).await;
                exchange.replies.push(reply);
            }
        }
        exchange
    }

    /// Closes the caller's session, so that options set by one input do not change the meaning of the next.
    pub async fn forget_options(&mut self, caller: &Caller) -> Reply {
        let action = Action::new("CloseSession", Vec::new()).encode_to_vec();
        let credential = self.credential(caller);
        let body = framed([action.as_slice()]);
        let path = format!("{SERVICE}DoAction");
        self.wire.send(&path, credential.as_deref(), body).await
    }

    fn credential(&self, caller: &Caller) -> Option<String> {
        match caller {
            Caller::Header(header) => Some(header.clone()),
            caller => self.credentials.get(caller).cloned(),
        }
    }

    async fn body(&mut self, input: &Input, path: &str, body: Vec<u8>, exchange: &mut Exchange) {
        let credential = self.credential(&input.caller);
        let reply = self.wire.send(path, credential.as_deref(), body).await;
        exchange.replies.push(reply);
    }

    /// Makes a call with one message and returns the first message of the reply, if the call succeeded.
    async fn call(
        &mut self,
        input: &Input,
        name: &str,
        message: impl Message,
        exchange: &mut Exchange,
    ) -> Option<Vec<u8>> {
        let body = framed([message.encode_to_vec().as_slice()]);
        self.body(input, &format!("{SERVICE}{name}"), body, exchange)
            .await;
        let reply = exchange.replies.last().filter(|reply| reply.is_ok())?;
        reply.messages.first().cloned()
    }

    /// Gets the flight info of a command, and fetches all its endpoints.
    async fn ask(
        &mut self,
        input: &Input,
        command: Vec<u8>,
        exchange: &mut Exchange,
    ) -> Option<()> {
        let descriptor = FlightDescriptor::new_cmd(command);
        let info = if input.way == Way::Poll {
            let message = self
                .call(input, "PollFlightInfo", descriptor, exchange)
                .await?;
            PollInfo::decode(message.as_slice()).ok()?.info?
        } else {
            let message = self
                .call(input, "GetFlightInfo", descriptor, exchange)
                .await?;
            FlightInfo::decode(message.as_slice()).ok()?
        };
        exchange.announced = Some(info.clone());
        for endpoint in info.endpoint {
            let ticket = damaged_ticket(endpoint.ticket?, &input.damage);
            self.fetch(input, ticket, exchange).await;
        }
        Some(())
    }

    async fn fetch(&mut self, input: &Input, ticket: Ticket, exchange: &mut Exchange) {
        self.call(input, "DoGet", ticket, exchange).await;
        let reply = exchange.replies.last().filter(|reply| reply.is_ok());
        let answer = reply.map(|reply| {
            let messages = reply.messages.iter();
            messages.map(|message| FlightData::decode(message.as_slice()).unwrap())
        });
        exchange.answer = answer.map(Iterator::collect);
    }

    async fn prepare(&mut self, input: &Input, exchange: &mut Exchange) -> Option<()> {
        let request = ActionCreatePreparedStatementRequest {
            query: input.text.clone(),
            transaction_id: None,
        };
        let body = request.as_any().encode_to_vec();
        let action = Action::new("CreatePreparedStatement", body);
        let message = self.call(input, "DoAction", action, exchange).await?;
        let body = arrow_flight::Result::decode(message.as_slice()).ok()?.body;
        let prepared: ActionCreatePreparedStatementResult =
            Any::decode(body).ok()?.unpack().ok()??;
        let mut handle = prepared.prepared_statement_handle.to_vec();
        damage(&mut handle, &input.damage);
        if !input.messages.is_empty() {
            let put = self.put(input, by_handle(handle.clone()), exchange).await?;
            let put = PutResult::decode(put.as_slice()).ok()?;
            let result = DoPutPreparedStatementResult::decode(put.app_metadata).ok()?;
            handle = result.prepared_statement_handle?.to_vec();
        }
        let command = by_handle(handle);
        if input.way == Way::Fetch {
            self.fetch(input, Ticket::new(command), exchange).await;
            return Some(());
        }
        self.ask(input, command, exchange).await
    }

    /// Sends the input's messages by DoPut, with the command in the first, and returns the first message of the reply.
    async fn put(
        &mut self,
        input: &Input,
        command: Vec<u8>,
        exchange: &mut Exchange,
    ) -> Option<Vec<u8>> {
        let names_command = FlightData {
            flight_descriptor: Some(FlightDescriptor::new_cmd(command)),
            ..FlightData::default()
        };
        let mut messages = input.messages.iter().map(|message| message.0.clone());
        // Concatenated Protobuf messages are merged by the decoder.
        let mut first = messages.next().unwrap_or_default();
        first.extend(names_command.encode_to_vec());
        let messages: Vec<Vec<u8>> = std::iter::once(first).chain(messages).collect();
        let body = framed(messages.iter().map(Vec::as_slice));
        let path = format!("{SERVICE}DoPut");
        self.body(input, &path, body, exchange).await;
        let reply = exchange.replies.last().filter(|reply| reply.is_ok())?;
        reply.messages.first().cloned()
    }
}

fn query(input: &Input) -> Vec<u8> {
    let command = CommandStatementQuery {
        query: input.text.clone(),
        transaction_id: None,
    };
    command.as_any().encode_to_vec()
}

fn by_handle(handle: Vec<u8>) -> Vec<u8> {
    let command = CommandPreparedStatementQuery {
        prepared_statement_handle: handle.into(),
    };
    command.as_any().encode_to_vec()
}

/// Returns the ticket with its encrypted part damaged, or unchanged if it has none.
fn damaged_ticket(ticket: Ticket, places: &[(usize, u8)]) -> Ticket {
    let held = Any::decode(ticket.ticket.clone());
    let held = held.ok().and_then(|any| any.unpack().ok().flatten());
    let Some(TicketStatementQuery { statement_handle }) = held else {
        return ticket;
    };
    let mut sealed = statement_handle.to_vec();
    damage(&mut sealed, places);
    let held = TicketStatementQuery {
        statement_handle: sealed.into(),
    };
    Ticket::new(held.as_any().encode_to_vec())
}

fn damage(sealed: &mut [u8], places: &[(usize, u8)]) {
    for (at, bits) in places {
        let length = sealed.len().max(1);
        if let Some(byte) = sealed.get_mut(at % length) {
            *byte ^= bits;
        }
    }
}
