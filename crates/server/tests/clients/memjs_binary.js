// memjs, which speaks the binary protocol in JavaScript: memjs_binary.js HOST:PORT

const { randomBytes } = require('node:crypto');
const { isDeepStrictEqual } = require('node:util');
const memjs = require('memjs');

let checks = 0;

function check(what, got, expected) {
  checks += 1;
  if (isDeepStrictEqual(got, expected)) return;
  console.error(`memjs: ${what}: got ${show(got)}, expected ${show(expected)}`);
  process.exit(1);
}

function show(value) {
  return String(Buffer.isBuffer(value) ? `${value.length} bytes: ${value}` : JSON.stringify(value)).slice(0, 200);
}

async function error(promise) {
  return promise.then(() => 'no error', (raised) => raised.message);
}

// An expiration of 1 s is over within 2 s of a one-second clock; 5 s allow for a busy machine.
async function goneInTime(get) {
  for (let attempt = 0; attempt < 50; attempt += 1) {
    if ((await get()) === null) return true;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  return false;
}

function create(address, options) {
  const silent = { log() {} };
  return memjs.Client.create(address, { timeout: 10, conntimeout: 10, retries: 1, logger: silent, ...options });
}

// Keeps in the flags whether a value was a string, as memjs documents its serializers.
const typed = {
  serialize(opcode, value, extras) {
    if (extras.length) extras.writeUInt32BE(typeof value === 'string' ? 0xfffefdfc : 1, 0);
    return { value, extras };
  },
  deserialize(opcode, value, extras) {
    return { value: extras.readUInt32BE(0) === 0xfffefdfc ? value.toString() : value, extras };
  },
};

async function main(address) {
  const mc = create(address);
  const value = async (key) => (await mc.get(key)).value;

  check('flush', await mc.flush(), { [address]: true });
  check('get of a missing key', await mc.get('missing'), { value: null, flags: null });
  check('set', await mc.set('text', 'grüße'), true);
  check('get', await value('text'), Buffer.from('grüße'));

  const values = {
    bytes: Buffer.from(Array.from({ length: 256 }, (_, byte) => byte)),
    empty: Buffer.alloc(0),
    large: randomBytes(500_000),
  };
  for (const [key, bytes] of Object.entries(values)) {
    check(`set ${key}`, await mc.set(key, bytes), true);
    check(`get ${key}`, await value(key), bytes);
  }
  check('longest key', [await mc.set('k'.repeat(250), 'v'), await value('k'.repeat(250))], [true, Buffer.from('v')]);

  // memjs has no multi-get: it pipelines, and so does this.
  const many = Array.from({ length: 500 }, (_, i) => [`many${i}`, `value ${i}`.repeat(i % 7)]);
  check('500 sets at once', (await Promise.all(many.map(([key, text]) => mc.set(key, text)))).every(Boolean), true);
  check('500 gets at once', (await Promise.all(many.map(([key]) => value(key)))).map(String), many.map(([, text]) => text));
  const mixed = await Promise.all([value('large'), value('missing'), mc.delete('many1'), value('many1'), value('large')]);
  check('different requests at once', mixed, [values.large, null, true, null, values.large]);

  check('add', await mc.add('added', '1'), true);
  check('add on an existing key', await mc.add('added', '2'), false);
  check('add left the value', await value('added'), Buffer.from('1'));
  check('replace', await mc.replace('added', '3'), true);
  check('replace on a missing key', await mc.replace('missing', '3'), false);
  check('append', await mc.append('added', '\0tail'), true);
  check('value after append', await value('added'), Buffer.from('3\0tail'));
  check('append to a missing key', await error(mc.append('missing', 'x')), 'MemJS APPEND: Item not stored');
  // memjs 1.3.2 sends APPEND for its prepend.
  check('prepend', [await mc.prepend('added', '!'), await value('added')], [true, Buffer.from('3\0tail!')]);
  check('delete', await mc.delete('added'), true);
  check('delete of a missing key', await mc.delete('added'), false);

  check('increment creates with the initial value', await mc.increment('counter', 5, { initial: 9 }), { success: true, value: 9 });
  check('increment', await mc.increment('counter', 91), { success: true, value: 100 });
  check('decrement', await mc.decrement('counter', 1, {}), { success: true, value: 99 });
  check('get of a counter', parseInt(await value('counter'), 10), 99);
  check('decrement stops at 0', await mc.decrement('counter', 1000, {}), { success: true, value: 0 });
  check('decrement creates', await mc.decrement('counter2', 5, { initial: 8 }), { success: true, value: 8 });
  check('increment of a word', await error(mc.increment('text', 1)), 'MemJS INCREMENT: Incr/Decr on non-numeric value');

  const flagged = create(address, { serializer: typed });
  check('set with flags', await flagged.set('flagged', 'text'), true);
  check('get with flags', await flagged.get('flagged'), { value: 'text', flags: Buffer.from('fffefdfc', 'hex') });
  check('set with other flags', await flagged.set('flagged', Buffer.from('bytes')), true);
  check('get with other flags', await flagged.get('flagged'), { value: Buffer.from('bytes'), flags: Buffer.from('00000001', 'hex') });

  check('touch', await mc.touch('text', 1000), true);
  check('touch of a missing key', await mc.touch('missing', 1000), false);
  check('set that expires', await mc.set('short', 'v', { expires: 1 }), true);
  check('expiry', await goneInTime(() => value('short')), true);
  check('a touched item outlives it', await value('text'), Buffer.from('grüße'));
  check('set in the past', [await mc.set('past', 'v', { expires: 1_000_000_000 }), await value('past')], [true, null]);

  const stats = await new Promise((resolve, reject) => {
    mc.stats((raised, server, all) => (raised ? reject(raised) : resolve(all)));
  });
  for (const name of ['pid', 'uptime', 'version', 'curr_items', 'get_hits', 'cmd_get']) {
    check(`stats has ${name}`, name in stats, true);
  }

  check('too large a value', await error(mc.set('huge', Buffer.alloc(1_100_000))), 'MemJS SET: Value too large');
  check('the connection lives on', await value('text'), Buffer.from('grüße'));
  check('flush', await mc.flush(), { [address]: true });
  check('get after flush', await Promise.all(['text', 'large', 'counter'].map(value)), [null, null, null]);

  mc.quit();
  flagged.close();
  console.log(`ok: ${checks} checks`);
}

main(process.argv[2]).catch((raised) => {
  console.error(raised);
  process.exit(1);
});
