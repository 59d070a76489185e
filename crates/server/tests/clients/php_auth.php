<?php
// php-memcached (libmemcached) with a user: php_auth.php HOST:PORT USER PASSWORD

declare(strict_types=1);

$checks = 0;

function check(string $what, mixed $got, mixed $expected): void
{
    global $checks;
    $checks += 1;
    if ($got !== $expected) {
        fwrite(STDERR, "php-memcached: $what: got " . var_export($got, true) . ', expected ' . var_export($expected, true) . "\n");
        exit(1);
    }
}

function connect(string $address, ?string $user, string $password): Memcached
{
    [$host, $port] = explode(':', $address);
    $mc = new Memcached();
    $mc->setOption(Memcached::OPT_BINARY_PROTOCOL, true);
    if ($user !== null) {
        $mc->setSaslAuthData($user, $password);
    }
    $mc->addServer($host, (int) $port);
    return $mc;
}

[, $address, $user, $password] = $argv;
$mc = connect($address, $user, $password);
check('set', $mc->set('key', 'value'), true);
check('get', $mc->get('key'), 'value');
check('a wrong password', connect($address, $user, $password . 'x')->set('stranger', 'value'), false);
check('nobody', connect($address, null, '')->set('stranger', 'value'), false);
check('get again', $mc->get('key'), 'value');
echo "ok: $checks checks\n";
