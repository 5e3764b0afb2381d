//! Servers that refuse, differ or do not answer.

use super::*;

fn client(server: &FakeAuthServer, path: &str, secret: &str) -> OAuth2 {
    let url = format!("{}{path}", server.url());
    OAuth2::new(&url, "client").unwrap().client_secret_basic(secret.to_owned())
}

#[tokio::test]
async fn a_wrong_client_secret_names_the_client_and_the_server() {
    let server = fake_server().await;
    let error = refused(client(&server, "/token", "wrong")).await;
    let text = format!(
        "wrong configuration: the server answered 401 at {}/token and rejected the client; check \
         the client id, the client secret or key, and how the client sends them",
        server.url()
    );
    says(&error, ErrorKind::Misconfigured, &text);
}

#[tokio::test]
async fn a_wrong_path_is_named() {
    let server = fake_server().await;
    let error = refused(client(&server, "/tokens", "secret")).await;
    let text = format!(
        "wrong configuration: the server answered 404 at {}/tokens, where a token response was \
         expected; check the URL",
        server.url()
    );
    says(&error, ErrorKind::Misconfigured, &text);
}

#[tokio::test]
async fn two_issuers_that_differ_are_both_named() {
    let named = "https://login.example.com/realms/a";
    let server = FakeAuthServer::builder().client("client", "secret").issuer(named);
    let server = server.start().await.unwrap();
    let provider = OAuth2::discover(server.url(), "client").unwrap();
    let error = refused(provider.client_secret_basic("secret")).await;
    let url = server.url();
    let text = format!(
        "wrong configuration: the server answered 200 at \
         {url}/.well-known/oauth-authorization-server, where metadata of the configured issuer was \
         expected; it names the issuer \"{named}\" in place of \"{url}\"; configure exactly the \
         issuer that the server names"
    );
    says(&error, ErrorKind::Misconfigured, &text);
}

#[tokio::test]
async fn a_server_that_is_down_is_named() {
    let server = fake_server().await;
    let (provider, url) = (client(&server, "/token", "secret"), server.url().to_owned());
    server.stop().await;
    let error = refused(provider).await;
    let text = format!(
        "try again later: the server at {url}/token could not be reached (connection refused); \
         check that it runs and that the URL is right"
    );
    says(&error, ErrorKind::RetryLater, &text);
}
