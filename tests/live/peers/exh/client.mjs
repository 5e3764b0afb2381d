// Runs the vendor's SDK, unchanged, against the server at the URL in argv[2], which knows the
// consumers and clients below. Each step throws if the SDK does not see what it expects.
// `rig(command)` has the test change the server: it is written to stdout and confirmed on stdin.
import assert from 'node:assert/strict';
import { createInterface } from 'node:readline';
import sdk from '@extrahorizon/javascript-sdk';

const host = process.argv[2].replace('127.0.0.1', 'localhost');
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const rig = async (command) => {
    console.log(command);
    await lines.next();
};
const email = 'ada@example.com';
const password = 'ok';
const rejects = (promise, name) => assert.rejects(promise, (error) => {
    assert.equal(error.constructor.name, name);
    assert.ok(error instanceof sdk[name]);
    return true;
});

async function oauth1() {
    const make = (extra = {}) =>
        sdk.createOAuth1Client({ host, consumerKey: 'ck', consumerSecret: 'cs&1', ...extra });
    const exh = make();
    await rejects(exh.auth.authenticate({ email, password: 'wrong' }), 'AuthenticationError');
    await rejects(make({ consumerKey: 'nobody' }).auth.authenticate({ email, password }), 'OauthKeyError');
    await rejects(make({ consumerSecret: 'x' }).auth.authenticate({ email, password }), 'OauthSignatureError');
    const token = await exh.auth.authenticate({ email, password });
    assert.match(token.token ?? token.key, /^[0-9a-f]{40}$/);
    assert.equal((await exh.users.me()).email, email);
    const query = '/users/v1/me?eq(name,a%20b)&limit(5)&a=1&a=b+c&%C3%A9=%27';
    assert.equal((await exh.raw.get(query)).data.email, email);
    assert.equal((await exh.raw.get('/users/v1/me?list[]=1&list[]=2')).data.email, email);

    const sso = await exh.auth.oauth1.generateSsoToken();
    assert.match(sso.ssoToken, /^[0-9a-f]{40}$/);
    assert.ok(sso.expiryTimestamp instanceof Date);
    const other = make();
    const consumed = await other.auth.oauth1.consumeSsoToken(sso.ssoToken);
    assert.equal(consumed.userId, (await exh.users.me()).id);
    await rejects(other.auth.oauth1.consumeSsoToken(sso.ssoToken), 'ResourceUnknownError');

    const listed = await exh.auth.oauth1.getTokens();
    assert.equal(listed.page.total, 2);
    assert.ok(listed.data.every((one) => one.tokenSecret === undefined));
    assert.ok(listed.data[0].creationTimestamp instanceof Date);
    assert.deepEqual(await exh.auth.oauth1.removeToken(consumed.id), { affectedRecords: 1 });
    assert.equal((await exh.auth.oauth1.getTokens()).data.length, 1);
    await rig('revoke');
    await rejects(exh.users.me(), 'OauthTokenError');
    await factor(make(), (exh, data) => exh.auth.authenticate(data), { email, password });
}

async function factor(exh, authenticate, grant) {
    await rig('factor on');
    const required = await authenticate(exh, grant).then(() => null, (error) => error);
    assert.ok(required instanceof sdk.MfaRequiredError);
    const mfa = required.mfa ?? required.response.mfa;
    assert.equal(mfa.tokenExpiresIn, 600000);
    const [method] = mfa.methods;
    assert.equal(method.type, 'totp');
    const answer = (code) => exh.auth.confirmMfa({ token: mfa.token, methodId: method.id, code });
    const refused = await answer('000000').then(() => null, (error) => error);
    const soon = await answer('123456').then(() => null, (error) => error);
    for (const [error, name] of [[refused, 'InvalidMfaCodeError'], [soon, 'MfaReattemptDelayError']]) {
        // In oAuth2 it is inside an InvalidGrantError.
        assert.equal((error.exhError ?? error).constructor.name, name);
    }
    await new Promise((resolve) => setTimeout(resolve, 1100));
    await answer('123456');
    assert.equal((await exh.users.me()).email, email);
    await rig('factor off');
}

async function oauth2() {
    const fresh = [];
    const make = (extra = {}) => sdk.createOAuth2Client({
        host, clientId: 'app', freshTokensCallback: async (data) => { fresh.push(data); }, ...extra,
    });
    const exh = make();
    await rejects(exh.auth.authenticate({ username: email, password: 'wrong' }), 'InvalidGrantError');
    await rejects(make({ clientId: 'nobody' }).auth.authenticate({ username: email, password }), 'InvalidClientError');
    const first = await exh.auth.authenticate({ username: email, password });
    assert.equal(first.expiresIn, 299.999);
    const me = await exh.users.me();
    assert.equal(me.id, first.userId);
    assert.equal((await exh.auth.oauth2.tokens.find()).data.length, 1);

    // 117: the SDK refreshes once and sends the request again.
    await rig('kill access tokens');
    assert.equal((await exh.users.me()).email, email);
    assert.equal(fresh.length, 2);
    assert.notEqual(fresh[1].refreshToken, first.refreshToken);

    const [own] = (await exh.auth.oauth2.tokens.find()).data;
    assert.ok(own.expiryTimestamp instanceof Date);
    assert.deepEqual(await exh.auth.oauth2.tokens.remove(own.id), { affectedRecords: 1 });

    // Two requests at once find the token dead: the SDK's known double refresh, and the second
    // meets a consumed token.
    await rig('hold two refreshes');
    const both = await Promise.allSettled([exh.users.me(), exh.users.me()]);
    assert.ok(both.some((one) => one.status === 'rejected'));

    const backend = make({ clientId: 'backend', clientSecret: 's:e' });
    const { refreshToken } = await backend.auth.authenticate({ username: email, password });
    await backend.auth.authenticate({ refreshToken });
    await backend.auth.authenticate({ refreshToken });
    assert.equal((await backend.users.me()).email, email);
    await factor(make(), (exh, data) => exh.auth.authenticate(data), { username: email, password });
}

await oauth1();
await oauth2();
console.log('done');
process.exit(0);
