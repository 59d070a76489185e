<?php
// php-memcached (libmemcached) over the binary protocol: php_binary.php HOST:PORT

declare(strict_types=1);

$checks = 0;

function check(string $what, mixed $got, mixed $expected): void
{
    global $checks;
    $checks += 1;
    if ($got !== $expected) {
        fwrite(STDERR, "php-memcached: $what: got " . show($got) . ', expected ' . show($expected) . "\n");
        exit(1);
    }
}

function show(mixed $value): string
{
    return substr(var_export($value, true), 0, 200);
}

/** The result code of the call before it, by name. */
function code(Memcached $mc): string
{
    $names = array_flip(array_filter(
        (new ReflectionClass('Memcached'))->getConstants(),
        fn ($value, $name) => is_int($value) && str_starts_with($name, 'RES_'),
        ARRAY_FILTER_USE_BOTH
    ));
    return $names[$mc->getResultCode()] ?? (string) $mc->getResultCode();
}

/** An expiration of 1 s is over within 2 s of a one-second clock; 5 s allow for a busy machine. */
function goneInTime(Memcached $mc, string $key): bool
{
    for ($attempt = 0; $attempt < 50; $attempt += 1) {
        if ($mc->get($key) === false && $mc->getResultCode() === Memcached::RES_NOTFOUND) {
            return true;
        }
        usleep(100_000);
    }
    return false;
}

function client(string $address, array $options = []): Memcached
{
    [$host, $port] = explode(':', $address);
    $mc = new Memcached();
    $mc->setOptions([Memcached::OPT_BINARY_PROTOCOL => true, Memcached::OPT_TCP_NODELAY => true] + $options);
    $mc->addServer($host, (int) $port);
    return $mc;
}

$address = $argv[1];
$mc = client($address);
check('flush', $mc->flush(), true);

check('get of a missing key', [$mc->get('missing'), code($mc)], [false, 'RES_NOTFOUND']);
check('set', $mc->set('text', 'grüße'), true);
check('get', $mc->get('text'), 'grüße');

// The extension marks type and compression in the flags, so each of these comes back right only if they are kept.
$values = [
    'bytes' => implode('', array_map('chr', range(0, 255))),
    'empty' => '',
    'int' => -12,
    'float' => 1.5,
    'true' => true,
    'array' => ['list' => [1, [2, null]]],
    'compressed' => str_repeat('a', 500_000),
    'large' => random_bytes(500_000),
];
foreach ($values as $key => $value) {
    check("set $key", $mc->set($key, $value), true);
    check("get $key", $mc->get($key), $value);
}
check('getMulti', $mc->getMulti([...array_keys($values), 'missing'], Memcached::GET_PRESERVE_ORDER), $values + ['missing' => null]);
check('longest key', [$mc->set(str_repeat('k', 250), 'v'), $mc->get(str_repeat('k', 250))], [true, 'v']);

$many = [];
for ($i = 0; $i < 500; $i += 1) {
    $many["many$i"] = str_repeat("value $i", $i % 7);
}
check('setMulti', $mc->setMulti($many), true);
check('getMulti of 500', $mc->getMulti(array_keys($many), Memcached::GET_PRESERVE_ORDER), $many);
check('getDelayed', $mc->getDelayed(['many8', 'missing', 'many9'], true), true);
$delayed = array_column($mc->fetchAll(), 'value', 'key');
check('fetchAll', $delayed, ['many8' => $many['many8'], 'many9' => $many['many9']]);
check('deleteMulti', array_unique($mc->deleteMulti(array_keys($many))), ['many0' => true]);
check('getMulti after deleteMulti', $mc->getMulti(array_keys($many)), []);

check('add', $mc->add('added', '1'), true);
check('add on an existing key', [$mc->add('added', '2'), code($mc)], [false, 'RES_DATA_EXISTS']);
check('add left the value', $mc->get('added'), '1');
check('replace', $mc->replace('added', '3'), true);
check('replace on a missing key', [$mc->replace('missing', '3'), code($mc)], [false, 'RES_NOTFOUND']);
$plain = client($address, [Memcached::OPT_COMPRESSION => false]);
check('append', $plain->append('added', "\0tail"), true);
check('prepend', $plain->prepend('added', "head\xff"), true);
check('value after append and prepend', $mc->get('added'), "head\xff3\0tail");
check('append to a missing key', [$plain->append('missing', 'x'), code($plain)], [false, 'RES_NOTSTORED']);
check('prepend to a missing key', [$plain->prepend('missing', 'x'), code($plain)], [false, 'RES_NOTSTORED']);
check('delete', $mc->delete('added'), true);
check('delete of a missing key', [$mc->delete('added'), code($mc)], [false, 'RES_NOTFOUND']);

$mc->set('cas', 'one');
$extended = $mc->get('cas', null, Memcached::GET_EXTENDED);
check('get with cas', $extended['value'], 'one');
check('cas', $mc->cas($extended['cas'], 'cas', 'two'), true);
check('cas with an old number', [$mc->cas($extended['cas'], 'cas', 'three'), code($mc)], [false, 'RES_DATA_EXISTS']);
check('value after cas', $mc->get('cas'), 'two');
check('cas on a missing key', [$mc->cas($extended['cas'], 'missing', 'x'), code($mc)], [false, 'RES_NOTFOUND']);

check('increment of a missing key', [$mc->increment('counter'), code($mc)], [false, 'RES_NOTFOUND']);
check('increment creates with the initial value', $mc->increment('counter', 5, 9), 9);
check('increment', $mc->increment('counter', 91), 100);
check('decrement', $mc->decrement('counter'), 99);
check('decrement stops at 0', $mc->decrement('counter', 1000), 0);
check('decrement creates', $mc->decrement('counter2', 5, 8), 8);
$mc->set('number', 41);
check('increment of a number that was set', [$mc->increment('number'), $mc->get('number')], [42, 42]);
check('increment of a word', client($address)->increment('text'), false);

check('touch', $mc->touch('text', 1000), true);
check('touch of a missing key', [$mc->touch('missing', 1000), code($mc)], [false, 'RES_NOTFOUND']);
check('set that expires', $mc->set('short', 'v', 1), true);
check('expiry', goneInTime($mc, 'short'), true);
check('a touched item outlives it', $mc->get('text'), 'grüße');
check('set in the past', [$mc->set('past', 'v', 1_000_000_000), $mc->get('past')], [true, false]);

check('getVersion', preg_match('/^[1-9]\d*\.\d+\.\d+$/', $mc->getVersion()[$address]), 1);
$stats = $mc->getStats()[$address];
foreach (['pid', 'uptime', 'version', 'curr_items', 'get_hits', 'cmd_get'] as $name) {
    check("getStats has $name", isset($stats[$name]), true);
}
check('getStats settings', isset($mc->getStats('settings')[$address]['maxconns']), true);

// Buffered requests are sent as one, NOREPLY as the quiet commands.
$quiet = client($address, [Memcached::OPT_BUFFER_WRITES => true, Memcached::OPT_NOREPLY => true]);
for ($i = 0; $i < 100; $i += 1) {
    $quiet->set("quiet$i", $i);
}
$quiet->delete('quiet7');
check('a get behind buffered writes', [$quiet->get('quiet99'), $mc->get('quiet99'), $mc->get('quiet7')], [99, 99, false]);

$keyed = client($address, [Memcached::OPT_LIBKETAMA_COMPATIBLE => true, Memcached::OPT_PREFIX_KEY => 'prefix:']);
check('prefix', [$keyed->set('key', 'v'), $mc->get('prefix:key')], [true, 'v']);
check('setByKey', [$keyed->setByKey('group', 'k', 'v'), $keyed->getByKey('group', 'k')], [true, 'v']);

check('too large a value', [$plain->set('huge', random_bytes(1_100_000)), code($plain)], [false, 'RES_E2BIG']);
check('the connection lives on', $plain->get('text'), 'grüße');
check('flush', $mc->flush(), true);
check('get after flush', $mc->getMulti(['text', 'large', 'counter']), []);
$mc->quit();
echo "ok: $checks checks\n";
