// memjs with a user: memjs_auth.js HOST:PORT USER PASSWORD

const memjs = require('memjs');

let checks = 0;

function check(what, got, expected) {
  checks += 1;
  if (got === expected) return;
  console.error(`memjs: ${what}: got ${got}, expected ${expected}`);
  process.exit(1);
}

function create(address, options) {
  const silent = { log() {} };
  return memjs.Client.create(address, { timeout: 10, conntimeout: 10, retries: 1, logger: silent, ...options });
}

async function refused(client) {
  try {
    return !(await client.set('stranger', 'value', {}));
  } catch {
    return true;
  } finally {
    client.close();
  }
}

async function main(address, username, password) {
  const mc = create(address, { username, password });
  check('set', await mc.set('key', 'value', {}), true);
  check('get', String((await mc.get('key')).value), 'value');
  check('a wrong password', await refused(create(address, { username, password: `${password}x` })), true);
  check('nobody', await refused(create(address, {})), true);
  check('get again', String((await mc.get('key')).value), 'value');
  mc.close();
}

main(...process.argv.slice(2)).then(() => console.log(`ok: ${checks} checks`));
