//! The layer in front of a channel of tonic.

use bytes::{Buf, BufMut, Bytes};
use futures_util::stream;
use http::{HeaderMap, Request, Response, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use session_warden::middleware::RepeatableBody;
use session_warden::middleware::tower::SessionLayer;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, Server};
use tonic::{Status, body::Body, client::Grpc};
use tower::{ServiceBuilder, service_fn};

use super::Setup;

/// Messages are bytes.
#[derive(Clone, Copy, Debug, Default)]
struct BytesCodec;

impl Codec for BytesCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(message);
        Ok(())
    }
}

impl Decoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// Returns the message. It does not know the first token.
async fn echo(request: Request<Body>) -> Result<Response<Body>, std::convert::Infallible> {
    let response = Response::builder().header(header::CONTENT_TYPE, "application/grpc");
    if request.headers()[header::AUTHORIZATION] == "Bearer access-1" {
        return Ok(response.header("grpc-status", "16").body(Body::empty()).unwrap());
    }
    let message = request.into_body().collect().await.unwrap().to_bytes();
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    let frames = [Frame::data(message), Frame::trailers(trailers)].map(Ok::<_, Status>);
    Ok(response.body(Body::new(StreamBody::new(stream::iter(frames)))).unwrap())
}

#[tokio::test]
async fn a_call_whose_token_is_rejected_is_made_once_more() {
    let Setup { api, session, script, .. } = &Setup::new().await;
    // The API of the setup gave its origin to the provider; here its port serves gRPC.
    let (origin, address) = (api.url.clone(), api.url.trim_start_matches("http://").to_owned());
    api.stop().await;
    let listener = tokio::net::TcpListener::bind(&*address).await.unwrap();
    let incoming = stream::unfold(listener, |listener| async move {
        let accepted = listener.accept().await.map(|(connection, _)| connection);
        Some((accepted, listener))
    });
    let server = Server::builder().serve_with_incoming(service_fn(echo), incoming);
    let server = tokio::spawn(server);

    let channel = Channel::from_shared(origin.clone()).unwrap().connect().await.unwrap();
    let service = ServiceBuilder::new()
        .layer(SessionLayer::new(session.clone()))
        .map_request(|request: Request<RepeatableBody<Body>>| request.map(Body::new))
        .service(channel);
    let mut client = Grpc::with_origin(service, origin.parse().unwrap());
    client.ready().await.unwrap();
    let call = tonic::Request::new(Bytes::from("hello"));
    let answer = client.unary(call, "/pkg.Echo/Call".parse().unwrap(), BytesCodec).await.unwrap();
    assert_eq!(answer.into_inner(), "hello");
    assert_eq!(script.refreshes(), 1);
    server.abort();
}
