# dalli with a user: dalli_auth.rb HOST:PORT USER PASSWORD [CA, for TLS]

require 'dalli'
require 'logger'
require 'openssl'

$checks = 0

def check(what, got, expected)
  $checks += 1
  abort "dalli: #{what}: got #{got.inspect[0, 200]}, expected #{expected.inspect[0, 200]}" if got != expected
end

def refused?(client)
  !client.set('stranger', 'value')
rescue Dalli::DalliError
  true
end

Dalli.logger = Logger.new(File::NULL)
address, user, password, ca = ARGV
tls = {}
if ca
  context = OpenSSL::SSL::SSLContext.new
  context.set_params(ca_file: ca)
  tls = { ssl_context: context }
end
mc = Dalli::Client.new(address, tls.merge(username: user, password: password))
check 'set', mc.set('key', 'value').is_a?(Integer), true
check 'get', mc.get('key'), 'value'
check 'a wrong password', refused?(Dalli::Client.new(address, tls.merge(username: user, password: "#{password}x"))), true
check 'nobody', refused?(Dalli::Client.new(address, tls)), true
check 'get again', mc.get('key'), 'value'
puts "ok: #{$checks} checks"
