// panva's `oidc-provider`, a certified authorization server, on loopback. Rotation, detection of reuse,
// revocation and introspection are the library's own; this file configures it and adds
//   * a store without a limit (the built-in one forgets all but 1000 entries), which can be made slow;
//   * a password grant, so that sessions can be established without a browser;
//   * an interaction that logs in and consents at once, so that a browser needs nobody to type;
//   * /_ctl: counters, faults between the commit and the answer, and other secrets of clients.
// README.md lists the variables. Prints "READY <issuer>" once it answers; SIGTERM stops it.
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';

// Two warnings for who runs this in production: Node 20 suffices for what is used here, and so do the
// library's sample keys.
const { warn } = console;
const expected = /Unsupported runtime|development-only signing keys/;
console.warn = (text, ...more) => expected.test(text) || warn(text, ...more);
const oidc = await import('oidc-provider');

const number = (name, otherwise) => {
  const value = Number(process.env[name] ?? otherwise);
  if (!Number.isFinite(value) || value < 0) throw new Error(`${name} is not a number of at least 0`);
  return value;
};
const PORT = number('PORT', 0);
const AT_TTL = number('AT_TTL', 5);
const RT_TTL = number('RT_TTL', 120);
const ROTATE = number('ROTATE', 1) === 1;
const ATOMIC_CONSUME = number('ATOMIC_CONSUME', 1) === 1;
const OVERLAP_MS = number('OVERLAP_S', 0) * 1000;
const STORE_DELAY_MS = number('STORE_DELAY_MS', 0);

// ---- counters and faults ------------------------------------------------------------------------

const faults = { drop_after_commit: 0, delay_ms: 0, deny_logins: 0 };
const counts = {
  token_requests: 0, // requests to the token endpoint, whatever the answer
  established: 0, // answers 200 to any grant but refresh_token
  refreshes: 0, // answers 200 to refresh_token, lost ones included
  refresh_errors: 0,
  presented_again: 0, // refresh tokens that came a second time, whatever the answer
  reuse_detected: 0,
  grants_revoked: 0, // for reuse, or on the client's wish
  revocations: 0, // answers 200 of the revocation endpoint
  pushed: 0, // answers 201 of the endpoint for pushed authorization requests
  device_polls: 0, // requests with a device code, whatever the answer
  early_polls: 0, // those that came less than 4.9 s after the one before, with the same code
  dropped: 0, // answers lost by drop_after_commit
};
const presented = new Set();
const polledAt = new Map(); // device code -> when it came last, in ms

function countToken({ grant_type, refresh_token }, status) {
  counts.token_requests += 1;
  if (grant_type !== 'refresh_token') {
    counts.established += status === 200;
    return;
  }
  counts.presented_again += presented.has(refresh_token);
  presented.add(refresh_token);
  counts[status === 200 ? 'refreshes' : 'refresh_errors'] += 1;
}

function countPoll(code, arrived) {
  if (!code) return;
  counts.device_polls += 1;
  counts.early_polls += arrived < (polledAt.get(code) ?? 0) + 4900;
  polledAt.set(code, arrived);
}

// Around the whole exchange: what comes after next() happens when the store has committed and nothing
// has been written to the socket.
async function observe(ctx, next) {
  const arrived = Date.now();
  await next();
  const route = ctx.oidc?.route;
  if (route === 'pushed_authorization_request' && ctx.status === 201) counts.pushed += 1;
  if (route === 'revocation' && ctx.status === 200) counts.revocations += 1;
  if (route !== 'token') return;
  countToken(ctx.oidc.params ?? {}, ctx.status);
  countPoll(ctx.oidc.params?.device_code, arrived);
  const drop = ctx.status === 200 && faults.drop_after_commit > 0;
  if (drop) { faults.drop_after_commit -= 1; counts.dropped += 1; }
  if (faults.delay_ms) await sleep(faults.delay_ms);
  if (drop) { ctx.respond = false; ctx.req.socket.destroy(); }
}

async function control(provider, req, res) {
  const answer = (status, body) => {
    res.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
  };
  if (req.method !== 'POST') return answer(200, { ...faults, counts });
  let body = '';
  for await (const chunk of req) body += chunk;
  try {
    const { client_secrets = {}, ...others } = JSON.parse(body);
    const wish = Object.entries(others);
    const wrong = wish.find(([name, value]) => !(name in faults) || !Number.isInteger(value) || value < 0);
    if (wrong) return answer(400, { error: `not a fault: ${wrong}` });
    for (const [id, secret] of Object.entries(client_secrets)) {
      const client = await provider.Client.find(id);
      if (!client?.clientSecret || !secret) return answer(400, { error: `no secret for ${id}` });
      client.clientSecret = secret;
    }
    for (const [name, value] of wish) faults[name] = value;
    return answer(200, { ...faults, counts });
  } catch (error) {
    return answer(400, { error: error.message });
  }
}

// ---- store --------------------------------------------------------------------------------------

const rows = new Map(); // "Model:id" -> { payload, ends, consumedAt }, times in ms
const byGrant = new Map(); // grant id -> Set of keys
const byUid = new Map(); // a browser session's uid -> its id
const byUserCode = new Map(); // what a user types -> the id of the device code

class Store {
  constructor(model) { this.model = model; }

  #key(id) { return `${this.model}:${id}`; }

  async #row(id) {
    if (STORE_DELAY_MS) await sleep(STORE_DELAY_MS);
    const row = rows.get(this.#key(id));
    return row && row.ends > Date.now() ? row : undefined;
  }

  async upsert(id, payload, expiresIn) {
    if (STORE_DELAY_MS) await sleep(STORE_DELAY_MS);
    // Kept beyond its end, so that the library can tell an expired token from an unknown one.
    const ends = expiresIn ? Date.now() + (expiresIn + 5) * 1000 : Infinity;
    rows.set(this.#key(id), { payload, ends });
    if (this.model === 'Session') byUid.set(payload.uid, id);
    if (payload.userCode) byUserCode.set(payload.userCode, id);
    if (!payload.grantId) return;
    if (!byGrant.has(payload.grantId)) byGrant.set(payload.grantId, new Set());
    byGrant.get(payload.grantId).add(this.#key(id));
  }

  async find(id) {
    const row = await this.#row(id);
    if (!row) return undefined;
    const { consumed, ...fresh } = row.payload;
    return Date.now() < row.consumedAt + OVERLAP_MS ? fresh : row.payload;
  }

  // The library reads `consumed` and sets it in two calls, so that with any slow store two overlapping
  // refreshes would both succeed. With ATOMIC_CONSUME the second is reuse, as behind a row lock.
  async consume(id) {
    const row = await this.#row(id);
    if (!row || Date.now() < row.consumedAt + OVERLAP_MS) return;
    if (row.consumedAt && ATOMIC_CONSUME) {
      const { grantId } = row.payload;
      await this.revokeByGrantId(grantId);
      rows.delete(`Grant:${grantId}`);
      counts.grants_revoked += 1;
      throw new oidc.errors.InvalidGrant('refresh token already used (lost the race)');
    }
    row.consumedAt ??= Date.now();
    row.payload.consumed ??= Math.floor(row.consumedAt / 1000);
  }

  async destroy(id) {
    if (STORE_DELAY_MS) await sleep(STORE_DELAY_MS);
    rows.delete(this.#key(id));
  }

  async revokeByGrantId(grantId) {
    if (STORE_DELAY_MS) await sleep(STORE_DELAY_MS);
    for (const key of byGrant.get(grantId) ?? []) rows.delete(key);
    byGrant.delete(grantId);
  }

  async findByUid(uid) { return this.find(byUid.get(uid)); }

  async findByUserCode(userCode) { return this.find(byUserCode.get(userCode)); }
}

// ---- provider -----------------------------------------------------------------------------------

const DEVICE_CODE = 'urn:ietf:params:oauth:grant-type:device_code';

const own = async (ctx, client, token) => token.clientId === client.clientId;

function configure(issuer) {
  const client = (client_id, more) => ({
    client_id,
    redirect_uris: ['http://127.0.0.1/callback'],
    response_types: ['code'],
    grant_types: ['authorization_code', 'refresh_token', 'password'],
    scope: 'openid offline_access',
    ...more,
  });
  const provider = new oidc.Provider(issuer, {
    adapter: Store,
    clients: [
      client('basic', {
        client_secret: 'basic-secret',
        token_endpoint_auth_method: 'client_secret_basic',
        grant_types: [
          'authorization_code', 'refresh_token', 'password', 'client_credentials', DEVICE_CODE,
        ],
      }),
      client('post', { client_secret: 'post-secret', token_endpoint_auth_method: 'client_secret_post' }),
      client('public', { token_endpoint_auth_method: 'none', application_type: 'native' }),
    ],
    scopes: ['openid', 'offline_access'],
    findAccount: async (ctx, accountId) => ({ accountId, claims: async () => ({ sub: accountId }) }),
    rotateRefreshToken: ROTATE,
    ttl: {
      AccessToken: AT_TTL,
      ClientCredentials: AT_TTL,
      RefreshToken: RT_TTL,
      Grant: RT_TTL * 100,
      IdToken: 60,
    },
    cookies: { keys: [randomBytes(16).toString('hex')] },
    interactions: { url: (ctx, { uid }) => `${INTERACTION}${uid}` },
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      deviceFlow: { enabled: true },
      introspection: { enabled: true, allowedPolicy: own },
      revocation: { enabled: true, allowedPolicy: own },
    },
  });
  provider.registerGrantType('password', (ctx) => passwordGrant(provider, ctx), ['username', 'password', 'scope']);
  provider.use(observe);
  provider.on('grant.revoked', () => { counts.grants_revoked += 1; });
  provider.on('grant.error', (ctx, error) => {
    counts.reuse_detected += error.error_detail?.startsWith('refresh token already used') ?? false;
  });
  provider.on('server_error', (ctx, error) => console.error('server_error', error));
  return provider;
}

const INTERACTION = '/interaction/';

// What a user would do: log in as whom the client expects, or as alice, and consent to all of it.
async function interact(provider, req, res) {
  try {
    const { prompt, params, session, grantId } = await provider.interactionDetails(req, res);
    const finish = (result) => provider.interactionFinished(req, res, result, { mergeWithLastSubmission: true });
    if (faults.deny_logins > 0) {
      faults.deny_logins -= 1;
      return await finish({ error: 'access_denied', error_description: 'the user said no' });
    }
    if (prompt.name === 'login') return await finish({ login: { accountId: params.login_hint ?? 'alice' } });
    const { accountId } = session;
    const known = grantId && await provider.Grant.find(grantId);
    const grant = known || new provider.Grant({ accountId, clientId: params.client_id });
    grant.addOIDCScope(params.scope);
    return await finish({ consent: { grantId: await grant.save() } });
  } catch (error) {
    return res.writeHead(400, { 'content-type': 'text/plain' }).end(error.message);
  }
}

// RFC 6749 4.3: any user name, the password is "ok".
async function passwordGrant(provider, ctx) {
  const { client, params } = ctx.oidc;
  if (params.password !== 'ok') throw new oidc.errors.InvalidGrant('wrong password');
  const accountId = params.username;
  const scope = params.scope || 'offline_access';
  const grant = new provider.Grant({ accountId, clientId: client.clientId });
  grant.addOIDCScope(scope);
  const common = { accountId, client, grantId: await grant.save(), scope, gty: 'password' };
  const access = new provider.AccessToken(common);
  const refresh = new provider.RefreshToken({ ...common, rotations: 0 });
  ctx.body = {
    access_token: await access.save(),
    token_type: 'Bearer',
    expires_in: access.expiration,
    scope,
    refresh_token: await refresh.save(),
  };
}

// ---- start and stop -----------------------------------------------------------------------------

const server = createServer();
const stop = () => process.exit(0);
for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, stop);
// A test that dies without a word closes the pipe: then nobody needs this server any more.
if (process.env.STOP_WITH_STDIN === '1') process.stdin.on('end', stop).resume();

server.listen(PORT, '127.0.0.1');
await once(server, 'listening'); // only now is the port known, and with it the issuer
const issuer = `http://127.0.0.1:${server.address().port}`;
const provider = configure(issuer);
const callback = provider.callback();
server.on('request', (req, res) => {
  if (req.url === '/_ctl') return control(provider, req, res);
  return req.url.startsWith(INTERACTION) ? interact(provider, req, res) : callback(req, res);
});
console.log(`READY ${issuer}`);
