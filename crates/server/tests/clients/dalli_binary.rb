# dalli over the binary protocol: dalli_binary.rb HOST:PORT

require 'dalli'
require 'logger'
require 'securerandom'

$checks = 0

def check(what, got, expected)
  $checks += 1
  abort "dalli: #{what}: got #{got.inspect[0, 200]}, expected #{expected.inspect[0, 200]}" if got != expected
end

def error
  yield
  'no error'
rescue Dalli::DalliError => e
  e.message
end

# An expiration of 1 s is over within 2 s of a one-second clock; 5 s allow for a busy machine.
def gone_in_time
  50.times do
    return true if yield.nil?

    sleep 0.1
  end
  false
end

Dalli.logger = Logger.new(File::NULL)
address = ARGV.fetch(0)
dc = Dalli::Client.new(address, protocol: :binary, socket_timeout: 10)
check('flush', dc.flush, [true])

check('get of a missing key', dc.get('missing'), nil)
check('set', dc.set('text', 'grüße').is_a?(Integer), true)
check('get', dc.get('text'), 'grüße')

# dalli marks type and compression in the flags, so each of these comes back right only if they are kept.
values = {
  'bytes' => (0..255).to_a.pack('C*'),
  'empty' => '',
  'nil_in_array' => [nil, 1, { 'two' => [2.5] }],
  'int' => -12,
  'symbol' => :symbol,
  'compressed' => 'a' * 500_000,
  'large' => SecureRandom.random_bytes(500_000)
}
values.each do |key, value|
  check("set #{key}", dc.set(key, value).is_a?(Integer), true)
  check("get #{key}", dc.get(key), value)
end
check('get_multi', dc.get_multi(values.keys + ['missing']), values)
check('longest key', [dc.set('k' * 250, 'v').is_a?(Integer), dc.get('k' * 250)], [true, 'v'])
check('fetch of a stored value', dc.fetch('text') { 'not this' }, 'grüße')
check('fetch of a missing key', [dc.fetch('fetched') { 'made' }, dc.get('fetched')], %w[made made])

many = (0...500).to_h { |i| ["many#{i}", "value #{i}" * (i % 7)] }
dc.multi { many.each { |key, value| dc.set(key, value) } }
check('get_multi of 500 that were set quietly', dc.get_multi(many.keys), many)
check('get_multi in blocks', {}.tap { |all| dc.get_multi(many.keys) { |key, value| all[key] = value } }, many)
dc.multi { many.each_key { |key| dc.delete(key) } }
check('get_multi after quiet deletes', dc.get_multi(many.keys), {})
dc.multi do
  dc.add('text', 'not stored')
  dc.replace('missing', 'not stored')
  dc.delete('missing')
  dc.set('quiet', 'one')
  dc.replace('quiet', 'two')
  dc.add('quiet', 'three')
end
check('quiet commands that fail leave the rest alone', dc.get('text'), 'grüße')
check('quiet commands in their order', dc.get('quiet'), 'two')

check('add', dc.add('added', 'one').is_a?(Integer), true)
check('add on an existing key', dc.add('added', 'two'), false)
check('add left the value', dc.get('added'), 'one')
check('replace', dc.replace('added', 'three').is_a?(Integer), true)
check('replace on a missing key, where dalli answers the CAS of the error', dc.replace('missing', 'three'), 0)
dc.set('raw', '3', nil, raw: true)
check('append', dc.append('raw', "\0tail"), true)
check('prepend', dc.prepend('raw', 'head'), true)
check('value after append and prepend', dc.get('raw', raw: true), "head3\0tail")
check('append to a missing key', dc.append('missing', 'x'), false)
check('prepend to a missing key', dc.prepend('missing', 'x'), false)
check('delete', dc.delete('added'), true)
check('delete of a missing key', dc.delete('added'), nil)

dc.set('cas', 'one')
value, cas = dc.get_cas('cas')
check('get_cas', value, 'one')
check('set_cas', dc.set_cas('cas', 'two', cas).is_a?(Integer), true)
check('set_cas with an old number', dc.set_cas('cas', 'three', cas), false)
check('replace_cas with an old number', dc.replace_cas('cas', 'three', cas), false)
check('delete_cas with an old number', dc.delete_cas('cas', cas), false)
check('value after cas', dc.get('cas'), 'two')
check('cas with a block', [dc.cas('cas') { |old| "#{old} three" }.is_a?(Integer), dc.get('cas')], [true, 'two three'])
check('cas on a missing key', dc.cas('missing') { 'x' }, nil)
stored = dc.set('cas', 'four')
check('the number that set answers is the item\'s', dc.get_cas('cas'), ['four', stored])
check('get_multi_cas', dc.get_multi_cas(%w[cas missing]), { 'cas' => ['four', stored] })
check('delete_cas', [dc.delete_cas('cas', stored), dc.get('cas')], [true, nil])

check('incr of a missing key', dc.incr('counter'), nil)
check('decr of a missing key', dc.decr('counter'), nil)
check('incr creates with the default', dc.incr('counter', 5, nil, 9), 9)
check('incr', dc.incr('counter', 91), 100)
check('decr', dc.decr('counter'), 99)
check('get of a counter', dc.get('counter', raw: true).to_i, 99)
check('decr stops at 0', dc.decr('counter', 1000), 0)
check('decr creates with the default', dc.decr('counter2', 5, nil, 8), 8)
check('incr of a word', error { dc.incr('text') }, 'Response error 6: Incr/decr on a non-numeric value')

check('touch', dc.touch('text', 1000), true)
check('touch of a missing key', dc.touch('missing', 1000), nil)
check('gat', dc.gat('text', 1000), 'grüße')
check('gat of a missing key', dc.gat('missing', 1000), nil)
check('set that expires', dc.set('short', 'v', 1).is_a?(Integer), true)
check('touch that shortens', [dc.set('touched', 'v'), dc.touch('touched', 1)].last, true)
check('gat that shortens', [dc.set('got', 'v'), dc.gat('got', 1)].last, 'v')
check('expiry', %w[short touched got].map { |key| gone_in_time { dc.get(key) } }, [true, true, true])
check('a touched item outlives them', dc.get('text'), 'grüße')

check('version', dc.version[address].match?(/\A[1-9]\d*\.\d+\.\d+\z/), true)
check('alive!', dc.alive!.nil?, false)
stats = dc.stats[address]
%w[pid uptime version curr_items get_hits cmd_get].each { |name| check("stats has #{name}", stats.key?(name), true) }
check('stats settings', dc.stats(:settings)[address].key?('maxconns'), true)
check('stats items', dc.stats(:items)[address].is_a?(Hash), true)
check('reset_stats', [dc.reset_stats, dc.stats[address]['get_hits']], [[true], '0'])

large = Dalli::Client.new(address, protocol: :binary, value_max_bytes: 2_000_000, raw: true, compress: false)
check('too large a value', error { large.set('huge', SecureRandom.random_bytes(1_100_000)) }, 'Response error 3: Value too large')
check('the connection lives on', large.get('text').b, 'grüße'.b)
check('flush', dc.flush, [true])
check('get after flush', dc.get_multi('text', 'large', 'counter'), {})
dc.close
large.close
puts "ok: #{$checks} checks"
