//! The Flight service: the list of its RPCs, each behind its layers, and those that need no file of their own.

use std::sync::Arc;

use arrow_flight::flight_service_server::FlightService;
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightInfo, HandshakeRequest,
    HandshakeResponse,
};
use async_trait::async_trait;
use tonic::{Request, Response, Status, Streaming};

use super::actions;
use super::put::DoPut;
use super::queries::{DoGet, GetFlightInfo, GetSchema, PollFlightInfo};
use crate::metering::RateLimitKind;
use crate::server::middleware::{
    Call, Content, MessageStream, Method, RequestMessages, Rpc, Work, method, respond,
};
use crate::server::state::server::Server;

/// The Flight service. Cheap to clone.
#[derive(Clone)]
pub(in crate::server) struct Service(pub Arc<Server>);

/// Implements tonic's trait. Each method does nothing but to pass the call through the layers; those that respond with a
/// stream name its type in the trait. The name of the type of an RPC is its name in gRPC.
macro_rules! flight_service {
    ($($method:ident: $rpc:ident $(as $stream:ident)?;)*) => {
        /// The RPCs of the service, as the layers of HTTP know them.
        pub(in crate::server) static METHODS: &[Method] = &[$(method::<$rpc>(stringify!($rpc))),*];

        #[async_trait]
        impl FlightService for Service {
            $($(type $stream = Content<$rpc>;)?)*

            $(
                async fn $method(
                    &self,
                    request: Request<<$rpc as Rpc>::Request>,
                ) -> Result<Response<Content<$rpc>>, Status> {
                    respond::<$rpc>(&self.0, request).await
                }
            )*
        }
    };
}

flight_service! {
    handshake: Handshake as HandshakeStream;
    list_flights: ListFlights as ListFlightsStream;
    get_flight_info: GetFlightInfo;
    poll_flight_info: PollFlightInfo;
    get_schema: GetSchema;
    do_get: DoGet as DoGetStream;
    do_put: DoPut as DoPutStream;
    do_exchange: DoExchange as DoExchangeStream;
    do_action: DoAction as DoActionStream;
    list_actions: ListActions as ListActionsStream;
}

/// Returns the credential that the layer of authentication has checked, or issued for a password.
pub(in crate::server) struct Handshake;

impl Rpc for Handshake {
    /// A handshake consists of headers.
    const MESSAGES: RequestMessages = RequestMessages::Ignored;
    const SIGNS_IN: bool = true;
    type Request = Streaming<HandshakeRequest>;
    type Task = ();
    type Reply = MessageStream<HandshakeResponse>;

    async fn decode(_: Streaming<HandshakeRequest>) -> Result<(), Status> {
        Ok(())
    }

    fn work((): &()) -> Work<'_> {
        Work::UNLIMITED
    }

    async fn handle(_: &Server, call: &Call, (): ()) -> Result<Self::Reply, Status> {
        let credential = call.issued_credential();
        let credential =
            credential.ok_or_else(|| Status::unauthenticated("the call was not authenticated"))?;
        Ok(MessageStream::known([HandshakeResponse {
            protocol_version: 0,
            payload: credential.to_owned().into(),
        }]))
    }
}

/// Runs an action.
pub(in crate::server) struct DoAction;

impl Rpc for DoAction {
    type Request = Action;
    type Task = Action;
    type Reply = MessageStream<arrow_flight::Result>;

    async fn decode(action: Action) -> Result<Action, Status> {
        Ok(action)
    }

    fn work(action: &Action) -> Work<'_> {
        actions::work(action)
    }

    async fn handle(server: &Server, call: &Call, action: Action) -> Result<Self::Reply, Status> {
        let bodies = server.run_action(call, &action).await?;
        let results = bodies.into_iter().map(|body| arrow_flight::Result { body });
        Ok(MessageStream::known(results))
    }
}

/// Lists the supported actions.
pub(in crate::server) struct ListActions;

impl Rpc for ListActions {
    type Request = Empty;
    type Task = ();
    type Reply = MessageStream<ActionType>;

    async fn decode(_: Empty) -> Result<(), Status> {
        Ok(())
    }

    fn work((): &()) -> Work<'_> {
        Work {
            command: None,
            rate_limit: Some(RateLimitKind::Action),
            ..Work::UNLIMITED
        }
    }

    async fn handle(_: &Server, _: &Call, (): ()) -> Result<Self::Reply, Status> {
        Ok(MessageStream::known(actions::list_actions()))
    }
}

/// Not supported: Flight SQL finds results by commands.
pub(in crate::server) struct ListFlights;

impl Rpc for ListFlights {
    type Request = Criteria;
    type Task = ();
    type Reply = MessageStream<FlightInfo>;

    async fn decode(_: Criteria) -> Result<(), Status> {
        Ok(())
    }

    fn work((): &()) -> Work<'_> {
        Work::UNLIMITED
    }

    async fn handle(_: &Server, _: &Call, (): ()) -> Result<Self::Reply, Status> {
        Err(Status::unimplemented(
            "ListFlights is not supported; use Flight SQL",
        ))
    }
}

/// Not supported: Flight SQL has no use for it.
pub(in crate::server) struct DoExchange;

impl Rpc for DoExchange {
    const MESSAGES: RequestMessages = RequestMessages::Ignored;
    type Request = Streaming<FlightData>;
    type Task = ();
    type Reply = MessageStream<FlightData>;

    async fn decode(_: Streaming<FlightData>) -> Result<(), Status> {
        Ok(())
    }

    fn work((): &()) -> Work<'_> {
        Work::UNLIMITED
    }

    async fn handle(_: &Server, _: &Call, (): ()) -> Result<Self::Reply, Status> {
        Err(Status::unimplemented(
            "DoExchange is not supported; use Flight SQL",
        ))
    }
}
